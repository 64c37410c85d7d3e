"""From a run's results to the rows of its curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from studies.bandit.results import interpolate

POINTS = 20  # of a curve, after its start
# Columns by where they stand in a result; that of the win rate is the tier's.
_EVALUATED = {
    "hard_win_rate": "win_rate_vs_initial",
    "mean_score": "mean_score",
    "kl": "kl",
    "evaluated_length": "response_length",
}
# What the win rate may hide; their start is the initial policy's.
CAPABILITY = {
    "finished": "finished_share",
    "repeated": "repeated_share",
    "copied": "copied_share",
    "perplexity": "reference_perplexity",
}
_OF_ROUNDS = {
    "accuracy": ("reward_model", "accuracy_on_new_labels"),
    "disagreement": ("reward_model", "member_disagreement"),
    "agreement": ("reward_model", "argmax_agreement"),
    "label_accuracy": ("duels", "synthetic_label_accuracy"),
}
COLUMNS = (
    "win_rate",
    *_EVALUATED,
    *CAPABILITY,
    *_OF_ROUNDS,
    "regret",
    "steps",
    "sampler_gap",
    "seconds",
)


class CurveRecorder:
    """Keeps what a run's curve needs of its results, round by round.

    Args:
        win_rate: The metric of an evaluation that is compared, a soft one as in the bandit tier:
            the mean hidden preference probability.
    """

    def __init__(self, win_rate: str) -> None:
        self._evaluated = {"win_rate": win_rate} | _EVALUATED
        self._rows: list[dict[str, float]] = []
        self._since: dict[str, list[float]] = {name: [] for name in _OF_ROUNDS}

    def add(self, result: Mapping[str, Any]) -> None:
        """Takes a round's result in; rounds with an evaluation make a row.

        What is measured in every round, on that round's labels, is averaged since the last row.
        """
        for name, (group, key) in _OF_ROUNDS.items():
            value = result[group].get(key)
            if value is not None and not math.isnan(value):
                self._since[name].append(float(value))
        evaluated = result.get("evaluation")
        if not evaluated or (self._rows and result["num_oracle_queries"] <= self.queries):
            return
        if not self._rows:
            start = dict.fromkeys(COLUMNS, math.nan)
            start |= {"queries": 0.0, "win_rate": 0.5, "hard_win_rate": 0.5, "regret": 0.0}
            start |= {
                "mean_score": evaluated["initial_mean_score"],
                "kl": 0.0,
                "seconds": 0.0,
                "steps": 0.0,
            }
            start |= {
                name: float(evaluated.get(f"initial_{key}", math.nan))
                for name, key in CAPABILITY.items()
            }
            self._rows.append(start)
        row = {"queries": float(result["num_oracle_queries"])}
        row |= {name: float(evaluated[key]) for name, key in self._evaluated.items()}
        row |= {name: float(evaluated.get(key, math.nan)) for name, key in CAPABILITY.items()}
        row |= {name: float(np.mean(v)) if v else math.nan for name, v in self._since.items()}
        row["regret"] = float(result["duels"]["cumulative_pool_regret"])
        row["steps"] = float(result["policy_steps"])
        row["sampler_gap"] = float(result["policy"].get("sampler_gap", math.nan))
        row["seconds"] = float(result["time_total_s"])
        self._rows.append(row)
        self._since = {name: [] for name in _OF_ROUNDS}

    @property
    def queries(self) -> int:
        """Of the last row."""
        return int(self._rows[-1]["queries"]) if self._rows else 0

    def curve(self, queries: int) -> Sequence[dict[str, float]]:
        """:data:`POINTS` rows at equal distances and the start, linear between evaluations.

        Args:
            queries: The run's budget, which it has used.
        """
        grid = np.linspace(0, queries, POINTS + 1).round()
        at = np.array([row["queries"] for row in self._rows])
        columns = {
            name: interpolate(grid, at, np.array([row[name] for row in self._rows]))
            for name in COLUMNS
        }
        return [
            {"queries": float(place)} | {name: float(columns[name][i]) for name in COLUMNS}
            for i, place in enumerate(grid)
        ]
