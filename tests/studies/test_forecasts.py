"""The calibration study: what is read off its runs, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.bandit.forecasts import (
    COLUMNS,
    METHODS,
    calibration_table,
    foretold,
    read,
    stopping_table,
    write,
)
from studies.bandit.simulation import Duels
from studies.language_models.forecasts import TRUTH, read_results, rows_of

NAN = float("nan")


def row(labels: float, win_rate: float, gain: float, high: float = NAN) -> dict[str, float]:
    """Foretold: a gain of 0.01 with an interval from 0 on, and a win rate of 0.6 to 0.8."""
    said = {"expected_gain": 0.01, "expected_gain_low": 0.0, "expected_gain_high": high}
    rates = {"": 0.7, "_low": 0.6, "_high": 0.8}
    rates = {f"estimated_win_rate{end}": value for end, value in rates.items()}
    true = {"labels": labels, "win_rate": win_rate, "gain": gain}
    nothing = dict.fromkeys(COLUMNS, NAN)
    return nothing | true | rates | (said if high == high else {})


RUNS = {
    (METHODS[0], 0): [
        row(100, 0.5, 0.02),  # nothing is foretold yet
        row(200, 0.6, 0.02, 0.03),
        row(300, 0.65, 0.05, 0.015),
        row(400, 0.7, NAN, 0.02),
    ],
    (METHODS[0], 1): [row(100, 0.7, 0.0, 0.04), row(400, 0.75, NAN, 0.04)],
}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_estimates_are_held_against_the_truth() -> None:
    """Three forecasts whose truth is known: one in three is above its interval."""
    (found,) = cells(calibration_table(RUNS))
    error = np.sqrt((0.01**2 + 0.04**2 + 0.01**2) / 3)
    assert found[1:] == [
        "0.55 to 0.75",
        "3",
        "0.650",
        "0.700",
        "1.00",
        "+0.0233",
        "+0.0100",
        f"{error:.4f}",
        "0.67",
        "0.33",
    ]


def test_what_the_stop_rule_saves_and_costs() -> None:
    """At 0.02 the first run ends at its third row; the other goes on."""
    found = cells(stopping_table(RUNS))
    assert [line[1:] for line in found if line[1] == "0.02"] == [
        ["0.02", "1 of 2", "350", "0.725", "+0.025", "+0.050"]
    ]
    assert [line[2] for line in found if line[1] == "0.01"] == ["0 of 2"]


def test_runs_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    assert read(file) == {}
    write(file, RUNS)
    for key, rows in read(file).items():
        for one, other in zip(rows, RUNS[key], strict=True):
            assert one == pytest.approx(other, nan_ok=True)


def test_labels_are_foretold_by_the_members_mean_of_the_duelled_pair() -> None:
    duels = Duels(
        prompts=np.array([4, 5]),
        pool=np.array([[7, 8, 9], [7, 7, 3]]),
        rewards=np.array([[[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]),
        first_place=np.array([2, 0]),
        second_place=np.array([1, 2]),
        first=np.array([9, 7]),
        second=np.array([8, 3]),
        first_from_reference=np.array([False, False]),
        valid=np.array([True, True]),
        real=np.array([True, False]),
        audited=np.array([False, False]),
        preference=np.array([0.0, 1.0]),
    )
    probabilities, wins = foretold(duels)
    assert probabilities == pytest.approx([(1 / (1 + np.exp(-2.0)) + 0.5) / 2])
    assert wins.tolist() == [False]


def result(labels: int, win_rate: float | None, **said: float) -> dict[str, Any]:
    evaluation = {} if win_rate is None else {TRUTH: win_rate, "num_prompts": 3.0}
    return {
        "num_oracle_queries": labels,
        "query_budget": 120,
        "evaluation": evaluation,
        "reward_model": {"nll": 0.5, **said},
    }


def test_forecasts_of_a_run_are_read_from_its_results(tmp_path: Path) -> None:
    """Of finished runs of reporting seeds; rounds without an evaluation have no truth."""
    said = {"estimated_win_rate": 0.7, "expected_gain": 0.01}
    results = [
        result(50, None),
        result(100, 0.6),
        result(110, 0.7, **said),
        result(115, None, **said),
        result(120, 0.8, **said),
    ]
    rows = rows_of(results)
    assert [row["labels"] for row in rows] == [100, 110, 120]
    assert [row["gain"] for row in rows] == pytest.approx([0.1, NAN, NAN], nan_ok=True)
    assert [row["expected_gain"] for row in rows] == pytest.approx([NAN, 0.01, 0.01], nan_ok=True)
    assert rows_of(results[:-1]) == rows_of([]) == []

    for name, lines in {
        "passive-1-aa_00000": results[:-1],
        "passive, 64 a round-0-aa_00001": results,
        "passive-0-aa_00002": results,
        "passive-100-aa_00003": results,
        "bai_ts-0-aa_00004": results,
    }.items():
        (tmp_path / name).mkdir()
        text = "\n".join(map(json.dumps, lines))
        (tmp_path / name / "result.json").write_text(text)
    methods = ["passive", "passive, 64 a round"]
    found = read_results(tmp_path, methods)
    assert list(found) == [("passive", 0), ("passive, 64 a round", 0)]
    assert set(found["passive", 0][0]) == set(COLUMNS)
