"""Labels that exist: from a file to a preference log, and from a log to what a run starts from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.export import FORMATS, export_preferences
from rllib_sea.preference_log.importing import import_preferences, read_preferences
from rllib_sea.preference_log.log import PreferenceLog, PreferenceReader
from rllib_sea.preference_log.records import PreferenceLogError, RunRecord
from rllib_sea.preference_log.written_preferences import (
    Preference,
    tokenize_preferences,
)
from rllib_sea.reward_model.initial_preferences import (
    check_initial_preferences,
    read_initial_preferences,
)
from tests.helpers.preference_log_cases import RUN, fill, give, question, response, verdict
from tests.helpers.tiny_models import make_tiny_policy
from text_duel.errors import ConfigError
from text_duel.verdicts import Label, Verdict

ROWS = [
    {"prompt": "Q1", "chosen": "a b", "rejected": "c"},
    {"prompt": "Q2", "chosen": "d", "rejected": ""},
    {"prompt": "Q1", "chosen": "e", "rejected": "f"},
]


@pytest.fixture
def tokenizer(tiny_policy: Path) -> PromptTokenizer:
    return PromptTokenizer(tiny_policy)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


# -- Import ---------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_what_was_exported_is_imported_and_exported_again(
    tmp_path: Path, tiny_policy: Path, file_format: str, chat: bool
) -> None:
    fill(tmp_path / "a.sqlite", dataclasses.replace(RUN, chat=chat))
    first, second = (tmp_path / f"{name}.{file_format}" for name in ("first", "second"))
    with PreferenceReader(tmp_path / "a.sqlite") as log:
        export_preferences(log, file_format, first)
    made = import_preferences(first, tmp_path / "b.sqlite", str(tiny_policy), chat)
    assert (made.num_preferences, made.num_prompts, made.left_out) == (4, 4, {})
    with PreferenceReader(tmp_path / "b.sqlite") as log:
        export_preferences(log, file_format, second)
    assert read_preferences(second).preferences == read_preferences(first).preferences
    if file_format == "jsonl":
        assert second.read_bytes() == first.read_bytes()


def test_an_imported_log_says_what_is_known(
    tmp_path: Path, tiny_policy: Path, tokenizer: PromptTokenizer
) -> None:
    file = write_rows(tmp_path / "team.jsonl", ROWS)
    made = import_preferences(file, tmp_path / "log.sqlite", str(tiny_policy))
    assert (made.num_preferences, made.num_prompts) == (3, 2)
    with PreferenceReader(tmp_path / "log.sqlite") as log:
        assert log.runs() == [RunRecord("imported(team.jsonl)", 0, str(tiny_policy), True)]
        assert log.num_answered() == 3
        entries = list(log.read())
    assert [e.question.prompt_id for e in entries] == ["team-000000", "team-000001", "team-000000"]
    asked = entries[0].question
    assert (asked.round, asked.position, asked.prompt_text) == (0, 0, "Q1")
    assert asked.prompt_token_ids == tokenizer.encode("Q1")
    assert (asked.first.text, asked.second.text) == ("a b", "c")
    assert tokenizer.decode(asked.first.token_ids) == "a b"
    assert asked.first.token_ids[-1] in tokenizer.eos_token_ids
    assert (asked.first.finish_reason, asked.first.logprobs) == ("stop", ())
    assert len(entries[1].question.second.token_ids) == 1, "an empty response is its end"
    assert (asked.member, asked.policy_version) == (None, -1)
    assert (asked.strategy, asked.labels, asked.flip_noise) == ("imported", "imported", 0.0)
    assert asked.oracle == "imported(team.jsonl)"
    for entry in entries:
        (given,) = entry.verdicts
        assert (given.verdict, given.rater) == (Verdict("first"), asked.oracle)
        assert entry.label == Label(1.0)


def test_conversations_are_imported(tmp_path: Path, tiny_policy: Path) -> None:
    user = {"role": "user", "content": "Q"}
    good, bad = ({"role": "assistant", "content": text} for text in ("good", "bad"))
    rows = [
        {"prompt": [user], "chosen": [good], "rejected": [bad]},
        {"prompt": "Q", "chosen": [user, bad], "rejected": [user, good]},
    ]
    file = write_rows(tmp_path / "c.jsonl", rows)
    made = import_preferences(file, tmp_path / "log.sqlite", str(tiny_policy))
    assert (made.num_preferences, made.num_prompts) == (2, 1)
    with PreferenceReader(tmp_path / "log.sqlite") as log:
        texts = [(e.question.first.text, e.question.second.text) for e in log.read()]
    assert texts == [("good", "bad"), ("bad", "good")]


def test_what_does_not_fit_the_model_is_named_and_never_cut(tmp_path: Path) -> None:
    """A token a byte: <|user|>, Q, <|end|>, <|assistant|>, five letters and <|end|> are 10."""
    model = str(make_tiny_policy(tmp_path / "model", context=10))
    rows = [
        {"prompt": "Q", "chosen": "a", "rejected": "abcdef"},
        {"prompt": "Q", "chosen": "a", "rejected": "abcde"},
        {"prompt": "QQ", "chosen": "abcde", "rejected": "a"},
    ]
    file = write_rows(tmp_path / "long.jsonl", rows)
    made = import_preferences(file, tmp_path / "log.sqlite", model)
    assert (made.num_preferences, made.num_prompts) == (1, 1)
    assert made.left_out == {"longer than 10 tokens": [f"{file}:1", f"{file}:3"]}
    with PreferenceReader(tmp_path / "log.sqlite") as log:
        (entry,) = log.read()
    assert (entry.question.position, entry.question.second.text) == (1, "abcde")

    write_rows(file, rows[::2])
    with pytest.raises(ConfigError, match=r"every row of .*long\.jsonl is longer than 10 tokens"):
        import_preferences(file, tmp_path / "none.sqlite", model)
    assert not (tmp_path / "none.sqlite").exists()


def test_an_import_appears_whole_or_not_at_all(
    tmp_path: Path, tiny_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_rows(tmp_path / "x.jsonl", ROWS)
    log = tmp_path / "log.sqlite"

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(PreferenceLogError, match="No space left on device"):
            import_preferences(file, log, str(tiny_policy))
    with pytest.raises(PreferenceLogError, match=r"cannot write .*: No such file"):
        import_preferences(file, tmp_path / "none" / "log.sqlite", str(tiny_policy))
    with pytest.raises(ConfigError, match="No such file"):
        import_preferences(tmp_path / "none.jsonl", log, str(tiny_policy))
    assert list(tmp_path.iterdir()) == [file]
    import_preferences(file, log, str(tiny_policy))
    before = log.read_bytes()
    with pytest.raises(PreferenceLogError, match="exists: name a new file"):
        import_preferences(file, log, str(tiny_policy))
    assert log.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [log, file]


# -- Tokens ---------------------------------------------------------------------------


def test_a_plain_response_is_parted_from_its_prompt(tiny_policy: Path) -> None:
    tokenizer = PromptTokenizer(tiny_policy, chat=False)
    pairs = [Preference("Q:", "a", "b"), Preference("Q:\n", "a", "b")]
    apart, after_space = tokenize_preferences(pairs, tokenizer)
    plain = tokenizer.tokenizer
    assert plain.decode(apart.prompt_token_ids + apart.chosen.token_ids[:-1]) == "Q: a"
    assert plain.decode(after_space.prompt_token_ids + after_space.chosen.token_ids[:-1]) == "Q:\na"
    assert tokenize_preferences([], tokenizer) == []


def test_a_turn_may_have_an_end_token_of_its_own(tokenizer: PromptTokenizer) -> None:
    """As Gemma's <end_of_turn> beside its <eos>."""
    eos = tokenizer.tokenizer.eos_token_id
    assert tokenizer.end_token_id == eos
    turn = tokenizer.tokenizer.convert_tokens_to_ids("<|system|>")
    template = tokenizer.tokenizer.chat_template
    tokenizer.tokenizer.chat_template = template.replace("<|end|>", "<|system|>")
    assert tokenizer.end_token_id == eos, "the model does not end on it"
    tokenizer.eos_token_ids = frozenset({eos, turn})
    assert tokenizer.end_token_id == turn
    tokenizer.chat = False
    assert tokenizer.end_token_id == eos


# -- What a run starts from -----------------------------------------------------------


def test_only_answers_that_prefer_a_response_are_learned_from(
    tmp_path: Path, tokenizer: PromptTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's tokens are not this tokenizer's: texts are tokenized anew."""
    monkeypatch.setattr("rllib_sea.reward_model.initial_preferences._ENTRIES_AT_ONCE", 3)
    fill(tmp_path / "log.sqlite")
    warnings: list[str] = []
    path = tmp_path / "log.sqlite"
    kept = read_initial_preferences(path, tokenizer, "tiny", warnings.append)
    asked = [question(0, 0), question(0, 1), question(1, 0), question(1, 1)]
    assert [(p.chosen.text, p.rejected.text) for p in kept] == [
        (q.first.text, q.second.text)[:: 1 if won else -1]
        for q, won in zip(asked, (True, False, True, False), strict=True)
    ]
    assert warnings == []
    for preference, q in zip(kept, asked, strict=True):
        assert preference.prompt_token_ids == tokenizer.encode(q.prompt_text)
        assert preference.prompt == q.prompt_text
        for candidate in (preference.chosen, preference.rejected):
            assert tokenizer.decode(candidate.token_ids) == candidate.text
            assert candidate.token_ids[-1] in tokenizer.eos_token_ids


def test_labels_that_do_not_fit_are_left_out_and_named(
    tmp_path: Path, tokenizer: PromptTokenizer
) -> None:
    path, warnings = tmp_path / "log.sqlite", list[str]()
    with PreferenceLog(path, RUN) as log:
        log.ask(0, [question(0, i, prompt_text="Q" * length) for i, length in enumerate((9, 3))])
        give(log, 0, {0: verdict(), 1: verdict()})
    longer, shorter = read_initial_preferences(path, tokenizer, "tiny", warnings.append)
    tokenizer.context_length = longer.num_tokens - 1
    assert read_initial_preferences(path, tokenizer, "tiny", warnings.append) == [shorter]
    (warning,) = warnings
    assert warning == (
        f"1 labels of {path} are left out, longer than {longer.num_tokens - 1} tokens, the context "
        "of tiny: round 0, position 0"
    )
    tokenizer.context_length = shorter.num_tokens - 1
    with pytest.raises(ConfigError, match=r"2 do not fit the model's context"):
        read_initial_preferences(path, tokenizer, "tiny", warnings.append)


def test_labels_of_held_out_prompts_are_left_out_and_counted(
    tmp_path: Path, tokenizer: PromptTokenizer
) -> None:
    path, warnings = tmp_path / "log.sqlite", list[str]()
    with PreferenceLog(path, RUN) as log:
        log.ask(0, [question(0, i, prompt_text=text) for i, text in enumerate(("a", "b", "a"))])
        give(log, 0, {i: verdict() for i in range(3)})
    (kept,) = read_initial_preferences(path, tokenizer, "tiny", warnings.append, {"a", "c"})
    assert kept.prompt == "b"
    assert warnings == [f"2 labels of {path} are left out: their prompts are held out"]
    with pytest.raises(ConfigError, match="3 are of held-out prompts"):
        read_initial_preferences(path, tokenizer, "tiny", warnings.append, {"a", "b"})


def test_sampled_tokens_are_kept_where_they_are_this_policys(
    tmp_path: Path, tokenizer: PromptTokenizer
) -> None:
    """A response that was cut has no end token; its text alone would get one."""

    def sampled(text: str) -> Candidate:
        token_ids = tuple(tokenizer.tokenizer(text)["input_ids"])
        return Candidate(text.strip(), token_ids, (-1.0,) * len(token_ids), "length")

    own = {
        "prompt_text": "Q",
        "prompt_token_ids": tokenizer.encode("Q"),
        "first": sampled(" cut o"),
        "second": sampled("other"),
    }
    beyond = dataclasses.replace(sampled("other"), token_ids=(*sampled("other").token_ids, 10**6))
    questions = [
        question(0, 0, **own),
        question(0, 1, **own | {"prompt_token_ids": (1, 2)}),
        question(0, 2, **own | {"second": response("other")}),
        question(0, 3, **own | {"second": beyond}),
        question(0, 4, **own | {"second": dataclasses.replace(sampled(""), text="other")}),
    ]
    with PreferenceLog(tmp_path / "log.sqlite", RUN) as log:
        log.ask(0, questions)
        give(log, 0, {i: verdict("second") for i in range(5)})
    kept, *others = read_initial_preferences(
        tmp_path / "log.sqlite", tokenizer, "tiny", pytest.fail
    )
    assert (kept.chosen, kept.rejected) == (own["second"], own["first"])
    anew = tokenize_preferences([Preference("Q", "other", "cut o")], tokenizer)[0]
    for other in others:
        assert (other.chosen, other.rejected) == (anew.chosen, anew.rejected)
        assert other.prompt_token_ids == own["prompt_token_ids"]


def test_a_log_that_a_run_cannot_start_from(tmp_path: Path) -> None:
    check_initial_preferences(None)
    fill(tmp_path / "good.sqlite")
    check_initial_preferences(str(tmp_path / "good.sqlite"))
    with PreferenceLog(tmp_path / "ties.sqlite", RUN) as log:
        log.ask(0, [question(0, 0), question(0, 1)])
        give(log, 0, {0: verdict("tie")})
    (tmp_path / "text.sqlite").write_text("no log, " * 100)
    for path, expected in (
        (tmp_path / "none.sqlite", "there is no preference log"),
        (tmp_path, "did you mean"),
        (tmp_path / "text.sqlite", "no SQLite file"),
        (tmp_path / "ties.sqlite", "has no answer that prefers a response"),
        (tmp_path / "rows.jsonl", "make one with `rllib-sea preferences import`"),
        (3, "3 is not the path of a preference log"),
    ):
        with pytest.raises(ConfigError) as error:
            check_initial_preferences(path)
        assert str(error.value).startswith("initial_preferences: ")
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
