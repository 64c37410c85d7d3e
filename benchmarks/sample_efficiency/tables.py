"""Tables of what was run, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.sample_efficiency.methods import RECIPE
from benchmarks.sample_efficiency.names import label
from benchmarks.sample_efficiency.results import (
    BASELINE,
    TARGET_SHARE,
    Curves,
    Efficiency,
    efficiency,
)

TITLES = {
    "main": "Methods",
    "reward_model": "Reward model settings",
    "mixing": "What mixing is made of",
    "learning_rate": "The policy's learning rate",
    "losses": "Direct losses",
    "noise": "Noisy and exact labels",
    "combined": "More mixing, a weaker lambda",
    "drift": "Preferences that drift after 1600 queries",
}
Runs = Mapping[str, Curves]


def baseline_of(method: str, runs: Runs) -> str:
    """Passive under the same condition (the last of a method's words), or else passive."""
    words = method.split(", ")[1:]
    for first in range(len(words)):
        under_the_same = ", ".join([BASELINE, *words[first:]])
        if under_the_same in runs:
            return under_the_same
    return BASELINE


def _number(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "never"


def _with_ends(value: str, low: str, high: str) -> str:
    return f"{value} [{low}, {high}]"


def needed_cells(result: Efficiency) -> list[str]:
    """Queries to the target and the ratio to passive's, each with its interval."""

    def ratio(value: float) -> str:
        return f"{value:.2f}" if np.isfinite(value) else "never"

    return [
        _with_ends(_number(result.queries), *map(_number, result.queries_interval)),
        _with_ends(ratio(result.ratio), *map(ratio, result.ratio_interval)),
    ]


def mean_at(curves: Curves, column: str, queries: float) -> float:
    """A column's mean over seeds at the nearest of the measured queries."""
    index = int(np.argmin(np.abs(curves.queries - queries)))
    return float(curves.columns[column][:, index].mean())


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def efficiency_table(runs: Runs, every_run: Runs) -> str:
    """A row a method: queries needed, win rates, regret, and how many responses are left.

    Args:
        runs: What to show.
        every_run: Where the baselines are.
    """
    rows = []
    for name, curves in runs.items():
        baseline = every_run[baseline_of(name, every_run)]
        last = curves.queries[-1]
        rows.append(
            [
                label(name),
                str(len(curves.seeds)),
                *needed_cells(efficiency(curves, baseline)),
                f"{mean_at(curves, 'win_rate', last / 2):.3f}",
                f"{mean_at(curves, 'win_rate', last):.3f}",
                f"{mean_at(curves, 'regret', last):.0f}",
                f"{mean_at(curves, 'online_win_rate', last):.3f}",
                f"{mean_at(curves, 'distinct', last):.1f}",
            ]
        )
    half, last = (f"{share * next(iter(runs.values())).queries[-1]:.0f}" for share in (0.5, 1))
    return table(
        [
            "method",
            "seeds",
            "queries to target",
            "ratio to passive",
            f"win rate at {half}",
            f"at {last}",
            "cumulative regret",
            "online win rate",
            "different of M, at the end",
        ],
        rows,
    )


def health_table(runs: Runs) -> str:
    """A row a method with an ERM: accuracy, disagreement and agreement against queries."""
    columns = ("accuracy", "pool_accuracy", "disagreement", "agreement")
    rows = [
        [label(name)]
        + [" / ".join(f"{mean_at(curves, c, q):.3f}" for q in (400, 1000, 2000)) for c in columns]
        for name, curves in runs.items()
        if not np.isnan(curves.columns["accuracy"]).all()
    ]
    return table(["ERM at 400 / 1000 / 2000 queries", *columns], rows)


def variants_table(runs: Runs) -> str:
    """The methods that were also measured with the best of N at test time."""
    rows = [
        [label(name)]
        + [
            f"{mean_at(curves, 'win_rate', q):.3f}, {mean_at(curves, 'best_of_n', q):.3f}"
            for q in AT
        ]
        for name, curves in runs.items()
        if not np.isnan(curves.columns["best_of_n"]).all()
    ]
    return table(["policy alone, best of N", *(f"{q} queries" for q in AT)], rows)


AT = (400, 800, 1600, 2400, 3200)


def win_rate_table(runs: Runs) -> str:
    """Win rates against queries."""
    at = (1600, 1700, 2000, 2400, 2800, 3200)
    rows = [
        [label(name), *(f"{mean_at(curves, 'win_rate', q):.3f}" for q in at)]
        for name, curves in runs.items()
    ]
    return table(["win rate at", *map(str, at)], rows)


def write_tables(out: Path, runs_by_suite: Mapping[str, Runs]) -> None:
    """Writes `tables.md`.

    Args:
        out: Folder.
        runs_by_suite: Curves by method, by suite.
    """
    every_run = {name: c for runs in runs_by_suite.values() for name, c in runs.items()}
    parts = [
        "# Bandit tier: tables\n",
        "Made by `python -m benchmarks.sample_efficiency`. The target is "
        f"{TARGET_SHARE:.0%} of the way from 0.5 to passive's last mean win rate under the same "
        "condition; in brackets 95% bootstrap intervals over seeds. Regret and the online win "
        "rate are of all duels that the oracle was asked about. "
        f"*Recipe*: {RECIPE}; else the selected pair and gamma 0.7.\n",
    ]
    for suite, runs in runs_by_suite.items():
        parts.append(f"## {TITLES[suite]}\n")
        if suite == "drift":
            parts.append(win_rate_table(runs))
            continue
        parts.append(efficiency_table(runs, every_run))
        if suite == "main":
            parts.append(variants_table(runs))
        if suite in ("main", "reward_model"):
            parts.append(health_table(runs))
    (out / "tables.md").write_text("\n".join(parts))
