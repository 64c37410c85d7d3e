"""Prompts are known again by what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_sea.policy.prompt_identity import Fingerprint, PromptIndex, is_in_share, text_digest
from rllib_sea.policy.prompts_record import PROMPTS_FILE, check_unchanged, record_prompts
from text_duel import ConfigError, Prompt


def prompts(*texts: str, first: int = 0) -> list[Prompt]:
    """With ids by row, as a file without ids has them."""
    return [Prompt(f"train-{i}", text, {"post": text}, None) for i, text in enumerate(texts, first)]


def test_a_digest_is_the_same_on_every_machine() -> None:
    """RFC 7693's function, with 8 bytes: `printf abc | b2sum -l 64`."""
    assert text_digest("abc") == "d8bb14d833d59559"
    assert text_digest("\ud800") != text_digest("\ud801"), "JSON allows halves of characters"


def test_a_larger_share_has_all_of_a_smaller_one() -> None:
    texts = [f"post {i}" for i in range(1000)]
    small, large = ({t for t in texts if is_in_share(t, share)} for share in (0.1, 0.3))
    assert small < large
    assert 70 < len(small) < 130
    assert 250 < len(large) < 350
    # d8bb... of 2^64 is 0.8466.
    assert not is_in_share("abc", 0.84)
    assert is_in_share("abc", 0.85)


def test_prompts_are_found_by_text_and_ids_tell_equal_texts_apart() -> None:
    index = PromptIndex(
        [
            Prompt("a", "one", {}, "first"),
            Prompt("b", "one", {}, "second"),
            Prompt("c", "two", {}, None),
        ]
    )

    def reference(prompt_id: str) -> str | None:
        found = index.find(prompt_id, "one")
        assert found is not None
        return found.reference

    assert [reference(name) for name in ("a", "b", "c")] == ["first", "second", "first"]
    assert index.find("c", "three") is None


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a", "b", "c"), None),
        (("c", "b", "a"), "the 3 training prompts stand in another order"),
        (("a", "c"), "of 3 training prompts 1 are gone or edited, 0 are new or edited"),
        (("a", "b", "c", "a"), "of 3 training prompts 0 are gone or edited, 1 are new or edited"),
        (("a", "B", "c"), "of 3 training prompts 1 are gone or edited, 1 are new or edited"),
    ],
)
def test_what_has_changed_is_said(texts: tuple[str, ...], expected: str | None) -> None:
    before = Fingerprint.of(prompts("a", "b", "c"), prompts("x"))
    assert before.difference(Fingerprint.of(prompts(*texts), prompts("x"))) == expected


def test_ids_do_not_count_but_all_that_an_oracle_sees() -> None:
    before = Fingerprint.of(prompts("a"), prompts("x"))
    assert before.difference(Fingerprint.of(prompts("a", first=7), prompts("x"))) is None
    seen = [Prompt("train-0", "a", {"post": "a"}, "a reference")]
    assert before.difference(Fingerprint.of(seen, prompts("x"))) == (
        "the prompts' texts are the same, their references or columns are not"
    )


def test_held_out_prompts_count_too_and_once_trained_on_stays_so() -> None:
    before = Fingerprint.of(prompts("a", "b"), prompts("x"))
    now = Fingerprint.of(prompts("b"), prompts("a", "x"))
    assert before.difference(now) == (
        "of 2 training prompts 1 are gone or edited, 0 are new or edited; "
        "of 1 held-out prompts 0 are gone or edited, 1 are new or edited"
    )
    assert before.num_trained_on(now) == 1
    assert before.num_trained_on(before) == 0


def test_a_run_with_other_prompts_is_refused_in_one_line_that_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    old = Fingerprint.of(prompts("a", "b"), prompts("x"))
    new = Fingerprint.of(prompts("b", "a"), prompts("x"))
    check_unchanged(tmp_path, new)  # of a run that has not begun nothing is known
    record_prompts(tmp_path, old)
    record_prompts(tmp_path, new)  # what it began with stays
    check_unchanged(tmp_path, old)
    assert [path.name for path in tmp_path.iterdir()] == [PROMPTS_FILE]
    said = (
        f"prompts: they have changed since the run began (by {tmp_path / PROMPTS_FILE}): the 2 "
        "training prompts stand in another order; put the old ones back and --resume goes on, or "
        "start a new run with the new ones"
    )
    with pytest.raises(ConfigError) as wrong:
        check_unchanged(tmp_path, new)
    assert str(wrong.value) == said
    for number in (1, 2):
        (tmp_path / f"checkpoint_00000{number}").mkdir()
    with pytest.raises(ConfigError) as wrong:
        check_unchanged(tmp_path, new)
    assert str(wrong.value) == f"{said} by --restore {tmp_path / 'checkpoint_000002'}"
