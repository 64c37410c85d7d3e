"""Two runs against each other, prompt by prompt, by hand."""

import json
from pathlib import Path

import pytest

from studies.language_models.paired import comparisons, difference, win_rates
from text_duel.errors import ConfigError


def write(run: Path, rows: list[tuple[int, str, list[float]]]) -> Path:
    run.mkdir()
    lines = [
        {
            "num_oracle_queries": labels,
            "prompt_id": prompt,
            "samples": [{"win_vs_initial": win} for win in wins],
        }
        for labels, prompt, wins in rows
    ]
    (run / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_differences_are_of_the_same_prompts(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one",
        [(8, "a", [0.0]), (16, "b", [0.9, 0.7]), (16, "a", [0.6, 0.6]), (24, "c", [])],
    )
    other = write(tmp_path / "other", [(16, "a", [0.5]), (16, "b", [0.5])])
    assert win_rates(one)[16] == pytest.approx({"a": 0.6, "b": 0.8})
    # 0.1 and 0.3: mean 0.2, standard deviation sqrt(0.02), over sqrt(2) prompts.
    rates = win_rates(one), win_rates(other)
    assert difference(*rates, [16], [16]) == pytest.approx((0.2, 1.96 * 0.1))
    assert 24 not in rates[0]
    assert list(comparisons(*rates, first=17)) == ["after 16 and 16 labels: +0.200 +- 0.196"]


def test_late_evaluations_are_averaged_and_the_nearest_compared() -> None:
    run = {10: {"a": 0.2, "b": 0.4}, 20: {"a": 0.5, "b": 0.7}, 29: {"a": 0.7, "b": 0.9}}
    other = {12: {"a": 0.2, "b": 0.4}, 30: {"a": 0.5, "b": 0.7}}
    assert list(comparisons(run, other, first=20)) == [
        "after 10 and 12 labels: +0.000 +- 0.000",
        "after 29 and 30 labels: +0.200 +- 0.000",
        "from 20 labels on: +0.100 +- 0.000",
    ]


def test_a_run_without_samples_is_named(tmp_path: Path) -> None:
    none = write(tmp_path / "none", [(8, "a", [])])
    for folder in (none, tmp_path):
        with pytest.raises(ConfigError, match=f"{folder}/responses.jsonl: no sampled responses"):
            win_rates(folder)
