"""The oracle that is people: what its configuration may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from text_duel import load_prompts
from text_duel.errors import ConfigError, OracleError
from text_duel.oracles import ask_oracle, check_oracle_config, make_oracle


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
        ({"overlap": 0.1}, "overlap: 0.1 needs a second rater"),
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
