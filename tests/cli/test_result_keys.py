from __future__ import annotations

import re
from pathlib import Path

import pytest

from rllib_sea.cli.result_keys import RESULT_KEYS, check_result_key
from text_duel.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def documented() -> set[str]:
    """Every name in the first columns of docs/metrics.md, with its group."""
    names = set()
    for section in DOCS.read_text().split("\n## ")[1:]:
        title, text = section.split("\n", 1)
        group = re.fullmatch(r"`(\w+/)`", title)
        prefix = group[1] if group else ""
        # The group `seconds/` is prose.
        cells = [text] if prefix == "seconds/" else re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.M)
        for cell in cells:
            for name in re.findall(r"`([\w/]+)`", cell):
                names.add(name if "/" in name else prefix + name)
    return names


def test_the_keys_are_the_documented_ones() -> None:
    known = {key for key in RESULT_KEYS if not key.endswith(("_low", "_high"))}
    of_tune = {
        "training_iteration",
        "time_total_s",
        "time_since_restore",
        "iterations_since_restore",
    }
    assert known - of_tune == documented()


def test_a_misspelt_key() -> None:
    check_result_key("stop", "evaluation/win_rate_vs_initial_low")
    with pytest.raises(ConfigError, match=r"stop: .*did you mean 'num_oracle_queries'"):
        check_result_key("stop", "num_oracle_querys")
