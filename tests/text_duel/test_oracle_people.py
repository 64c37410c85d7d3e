"""The oracle that is people: what its configuration may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from text_duel import load_prompts
from text_duel.conversations import turn
from text_duel.errors import ConfigError, OracleError
from text_duel.oracles import ask_oracle, check_oracle_config, make_oracle
from text_duel.oracles.gold import GoldQuestion
from text_duel.oracles.people import PeopleOracle


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"raters": "ann"}, "raters: 'ann' is not a list of one name or more"),
        ({"raters": []}, r"raters: \[\] is not a list"),
        ({"raters": ["ann", "ann"]}, "has a name twice"),
        ({"raters": ["a\nb"]}, "is not a name of 1 to 40 characters in one line"),
        ({"raters": [" "]}, "is not a name of 1 to 40"),
        ({"port": 70_000}, "port: 70000 is not a whole number in"),
        ({"port": True}, "port: True is not a whole number"),
        ({"host": 8}, "host: 8 is not an address"),
        ({"lease_s": 0}, "lease_s: 0 is not a number at least 1"),
        ({"undo_s": float("nan")}, "undo_s: nan is not a number at least 0"),
        ({"overlap": 2, "raters": ["a", "b"]}, "overlap: 2 is not a number in"),
        ({"overlap": 0.1}, "overlap: 0.1 needs 2 raters, raters names one"),
        ({"raters_per_question": 2}, "raters_per_question: 2 needs 2 raters, raters names one"),
        ({"raters": ["a", "b"], "raters_per_question": 2, "overlap": 1}, "overlap: 1 needs 3"),
        ({"raters_per_question": 1.0}, "raters_per_question: 1.0 is not a whole number of at"),
        ({"labels_by": "majorty"}, "labels_by: 'majorty' is none of single, majority, reliab"),
        ({"gold_share": 0.1}, "gold_share: 0.1 needs the file gold"),
        ({"repeat_share": 0.6}, r"repeat_share: 0.6 is not a number in \[0, 0.5\]"),
        ({"gold": "none.jsonl"}, "gold: cannot read none.jsonl"),
        ({"gold": 3}, "gold: 3 is not the name of a file"),
        ({"rubric": "none.md"}, "rubric: .*none.md: No such file"),
        ({"rubric": 3}, "rubric: 3 is not the name of a Markdown file"),
        ({"rubrik": "tldr"}, "did you mean 'rubric'"),
    ],
)
def test_a_bad_value_is_one_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_oracle_config("people", config)


def test_a_rubric_is_a_part_of_the_name(tmp_path: Path) -> None:
    file = tmp_path / "rules.md"
    file.write_text("Shorter is better.")
    one = make_oracle("people", {"rubric": str(file)})
    assert one.name.startswith("people(rubric=")
    file.write_text("Longer is better.")
    assert make_oracle("people", {"rubric": str(file)}).name != one.name
    assert make_oracle("people").name == "people"
    file.write_text(" ")
    with pytest.raises(ConfigError, match=r"rules\.md is empty"):
        make_oracle("people", {"rubric": str(file)})
    assert "Which summary" in make_oracle("people", {"rubric": "tldr"}).rubric  # type: ignore[attr-defined]


def test_people_cannot_be_called() -> None:
    with pytest.raises(OracleError, match="is asked on a page"):
        ask_oracle(make_oracle("people"), load_prompts("tldr_mini")[:1], ["a"], ["b"])


GOLD = {"prompt": "p", "chosen": "good", "rejected": "bad"}
TALK = [{"role": "user", "content": "p"}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "gold.jsonl has no rows"),
        (
            [GOLD, {"prompt": "p", "chosn": "a", "rejected": "b"}],
            "jsonl:2: no column 'chosen'.*did",
        ),
        ([GOLD | {"chosen": " "}], "jsonl:1: chosen is empty"),
        ([GOLD | {"rejected": 3}], "jsonl:1: rejected is the number 3, expected text"),
        ([GOLD | {"rejected": " good\n"}], "jsonl:1: chosen and rejected are the same text"),
        ([GOLD, GOLD | {"chosen": "x"}, GOLD], "jsonl:3: the same as .*jsonl:1"),
        ([GOLD | {"prompt": "\ud800"}], "jsonl:1: prompt has half of a character"),
    ],
)
def test_a_bad_gold_question_is_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    file = tmp_path / "gold.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=f"oracle_config.gold: .*{message}"):
        check_oracle_config("people", {"gold": str(file)})


def test_gold_questions_are_texts_or_messages(tmp_path: Path) -> None:
    file = tmp_path / "gold.jsonl"
    rows = [GOLD, {"prompt": TALK, "chosen": [*TALK, turn("assistant", "a")[0]], "rejected": "b"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    people = PeopleOracle(gold=str(file))
    assert people.gold == (
        GoldQuestion("p", "good", "bad"),
        GoldQuestion(turn("user", "p"), "a", "b"),
    )
    assert (people.gold_share, PeopleOracle().gold_share) == (0.05, 0.0)


def test_a_page_of_the_log_is_made_again_from_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gold.jsonl").write_text(json.dumps(GOLD))
    monkeypatch.chdir(tmp_path)
    options = {"gold": "gold.jsonl", "rubric": "tldr", "labels_by": "majority", "undo_s": 1.0}
    people = PeopleOracle(raters=["ann", "bob"], raters_per_question=2, **options)
    monkeypatch.chdir("/")
    again = PeopleOracle(raters=["bob", "ann"], **people.options)
    names = ("gold", "gold_share", "rubric", "labels_by", "raters_per_question", "undo_s", "name")
    for name in names:
        assert getattr(again, name) == getattr(people, name), name
    assert again.options == people.options
    assert PeopleOracle(**PeopleOracle().options).options == PeopleOracle().options
