"""Two methods against each other, prompt by prompt and seed by seed, by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from studies.bandit.paired import differences, read_method
from studies.bandit.results import Curves, append_run
from studies.language_models.paired import (
    append_win_rates,
    comparisons,
    difference,
    prompts_file,
    read_win_rates,
    win_rates,
)
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
    # 0.1 and 0.3: mean 0.2, standard deviation sqrt(0.02), over sqrt(2) prompts; Student's t of one
    # degree of freedom is 12.706.
    rates = win_rates(one), win_rates(other)
    assert difference(*rates, [16], [16]) == pytest.approx((0.2, 12.706 * 0.1), abs=1e-4)
    assert 24 not in rates[0]
    assert list(comparisons(*rates, first=17)) == ["after 16 and 16 labels: +0.200 +- 1.271"]


def test_late_evaluations_are_averaged_and_the_nearest_compared() -> None:
    run = {10: {"a": 0.2, "b": 0.4}, 20: {"a": 0.5, "b": 0.7}, 29: {"a": 0.7, "b": 0.9}}
    other = {12: {"a": 0.2, "b": 0.4}, 30: {"a": 0.5, "b": 0.7}}
    assert list(comparisons(run, other, first=20)) == [
        "after 10 and 12 labels: +0.000 +- 0.000",
        "after 29 and 30 labels: +0.200 +- 0.000",
        "from 20 labels on: +0.100 +- 0.000",
    ]


def test_what_is_kept_is_read_again_whatever_the_order_of_prompts(tmp_path: Path) -> None:
    file = prompts_file(tmp_path / "512.csv")
    assert file.name == "512_prompts.csv"
    append_win_rates(file, "passive", 0, {})
    assert not file.exists()
    append_win_rates(file, "passive", 0, {8: {"a, 1": 0.5, "b": 0.25}})
    append_win_rates(file, "bai_ts, x", 1, {8: {"b": 0.75, "a, 1": 1.0}, 16: {"a, 1": 0, "b": 0}})
    assert read_win_rates(file) == {
        "passive": {0: {8: {"a, 1": 0.5, "b": 0.25}}},
        "bai_ts, x": {1: {8: {"b": 0.75, "a, 1": 1.0}, 16: {"a, 1": 0, "b": 0}}},
    }
    with pytest.raises(ConfigError, match="no such file"):
        read_win_rates(tmp_path / "none.csv")


def test_methods_are_compared_over_the_seeds_that_both_have() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, Student's t 4.303, sqrt(3).
    queries = np.array([0.0, 100.0, 200.0])
    win_rates = np.array([[0.5, 0.5, 0.6], [0.5, 0.5, 0.8], [0.5, 0.5, 1.0], [0, 0, 0]])
    method = Curves(queries, np.array([0, 1, 2, 5]), {"win_rate": win_rates})
    others = np.array([[0.5, 0.5, 0.5], [0.5, 0.6, 0.6], [0.5, 0.5, 0.7]])
    other = Curves(queries, np.array([0, 1, 2]), {"win_rate": others})
    late, early, whole = differences(method, other, [199, 100])
    assert late == ("after 200 labels: +0.200 +- 0.248 (0.800, 0.600; ahead in 3 of 3 seeds)")
    assert early.startswith("after 100 labels: -0.033")
    # Differences of the means 0.1 / 3, 0.1 / 3, 0.3 / 3: the whole curves, seed by seed.
    assert whole == ("over the whole curve: +0.056 +- 0.096 (0.600, 0.544; ahead in 3 of 3 seeds)")
    with pytest.raises(ConfigError, match="1 seeds in common"):
        next(differences(method, other.only([0]), [100]))


def test_a_method_is_found_in_whichever_file_it_is(tmp_path: Path) -> None:
    for name, method in (("a", "passive"), ("b", "bai_ts+mix")):
        append_run(tmp_path / "runs" / f"{name}.csv", method, 3, [{"queries": 0, "win_rate": 0.5}])
    assert read_method(tmp_path, "bai_ts+mix").seeds.tolist() == [3]
    with pytest.raises(ConfigError, match="nearest: bai_ts"):
        read_method(tmp_path, "bai_ts+mixed")
