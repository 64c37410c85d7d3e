"""Tables of what was run, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from studies.bandit.controls import baseline_of, control_of, replayed_control_of
from studies.bandit.methods import BEST_RATES, RECIPE, TUNED_SUFFIX
from studies.bandit.names import label
from studies.bandit.results import (
    BASELINE,
    TARGET_SHARE,
    Curves,
    Efficiency,
    efficiency,
    interval,
)

TITLES = {
    "main": "Methods",
    "reward_model": "Reward model settings",
    "mixing": "What mixing is made of",
    "own_labels": "The ERM's own labels: soft, agreed on, by bounds, audited",
    "early": "Learning from the ERM after two rounds; REINFORCE on it",
    "tuned": "Each method at its own learning rate and beta",
    "learning_rate": "The policy's learning rate",
    "losses": "Direct losses",
    "noise": "Noisy and exact labels",
    "combined": "More mixing, a weaker lambda",
    "drift": "Preferences that drift after 1600 queries",
}
Runs = Mapping[str, Curves]


def _number(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "never"


def _with_ends(value: str, low: str, high: str) -> str:
    return f"{value} [{low}, {high}]"


def needed_cells(result: Efficiency) -> list[str]:
    """Queries to the target and the ratio to passive's, with intervals if there are more seeds."""
    needed = _number(result.queries)
    if result.seeds > 1:
        needed = _with_ends(needed, *map(_number, result.queries_interval))
    return [needed, _ratio_cell(result)]


def ratio_text(value: float) -> str:
    """A ratio of queries: "never" if infinite, "alone" if 0, as the other never gets there."""
    if not value:
        return "alone"
    return f"{value:.2f}" if np.isfinite(value) else "never"


def _ratio_cell(result: Efficiency) -> str:
    ratio = ratio_text(result.ratio)
    if result.seeds == 1:
        return ratio
    return _with_ends(ratio, *map(ratio_text, result.ratio_interval))


def control_cells(method: str, control: str | None, runs: Runs) -> list[str]:
    """The ratio to a control, and the control's name; "-" if there is none.

    Args:
        method: One of the runs.
        control: Another, or None.
        runs: Curves by method, baselines and controls among them.
    """
    if control is None:
        return ["-", "-"]
    result = efficiency(runs[method], runs[baseline_of(method, runs)], runs[control])
    return [_ratio_cell(result), label(control)]


def mean_at(curves: Curves, column: str, queries: float) -> float:
    """A column's mean over seeds at the nearest of the measured queries."""
    index = int(np.argmin(np.abs(curves.queries - queries)))
    return float(curves.columns[column][:, index].mean())


def last_cell(curves: Curves, column: str, digits: int) -> str:
    """A column's last mean, with its 95% interval if there are more seeds; "-" if not measured.

    Args:
        curves: Of a method.
        column: The name.
        digits: After the point.
    """
    if column not in curves.columns:
        return "-"
    ends = (float(values[0]) for values in interval(curves.columns[column][:, -1:]))
    mean, low, high = (f"{value:.{digits}f}" for value in ends)
    return _with_ends(mean, low, high) if len(curves.seeds) > 1 else mean


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def efficiency_table(runs: Runs, every_run: Runs) -> str:
    """A row per method: queries needed, win rates, regret, how far the policy went and by what.

    Args:
        runs: What to show, of the seeds that the baselines have.
        every_run: Where the baselines and the controls are.
    """
    rows = []
    for name, every_seed in runs.items():
        baseline = every_run[baseline_of(name, every_run)]
        curves = every_seed.only(baseline.seeds)
        last = curves.queries[-1]
        rows.append(
            [
                label(name),
                str(len(curves.seeds)),
                *needed_cells(efficiency(curves, baseline)),
                *control_cells(name, control_of(name, every_run), every_run),
                f"{mean_at(curves, 'win_rate', last / 2):.3f}",
                last_cell(curves, "win_rate", 3),
                f"{mean_at(curves, 'regret', last):.0f}",
                f"{mean_at(curves, 'online_win_rate', last):.3f}",
                f"{mean_at(curves, 'distinct', last):.1f}",
                last_cell(curves, "steps", 0),
                last_cell(curves, "kl", 1),
            ]
        )
    half, last = (f"{share * next(iter(runs.values())).queries[-1]:.0f}" for share in (0.5, 1))
    return table(
        [
            "method",
            "seeds",
            "queries to target",
            "ratio to passive",
            "ratio to the control of equal updates",
            "its control",
            f"win rate at {half}",
            f"at {last}",
            "cumulative regret",
            "online win rate",
            "different of M, at the end",
            "steps",
            "KL",
        ],
        rows,
    )


def replay_table(runs: Runs, every_run: Runs) -> str:
    """The methods that make as many updates per label as passive with replay, against that.

    Args:
        runs: What to show.
        every_run: Where the baselines and the controls are.
    """
    rows = []
    for name in runs:
        control = replayed_control_of(name, every_run)
        if control not in (None, name):
            rows.append([label(name), *control_cells(name, control, every_run)])
    return table(["method", "ratio to passive with replay of equal updates", "that is"], rows)


def tuned_table(runs: Runs, every_run: Runs) -> str:
    """A row per tuned method: labels to the target of the common rate, and of what others need.

    Args:
        runs: The tuned methods.
        every_run: Where passive at the common rate is, off which the target is read.
    """
    others = [BASELINE, *(f"{name}{TUNED_SUFFIX}" for name in TUNED_AGAINST)]
    rows = []
    for name, curves in runs.items():
        beta, lr = BEST_RATES[name.removesuffix(TUNED_SUFFIX)]
        results = [efficiency(curves, every_run[BASELINE], every_run[other]) for other in others]
        rows.append(
            [
                label(name),
                f"{beta:g}, {lr:g}",
                needed_cells(results[0])[0],
                *(_ratio_cell(result) for result in results),
                *(f"{mean_at(curves, 'win_rate', q):.3f}" for q in TUNED_AT),
            ]
        )
    return table(
        [
            "at its own rate",
            "beta, rate",
            f"queries to the target of {label(BASELINE)} at the common rate",
            *(f"of {label(other)}'s" for other in others),
            *(f"win rate at {q}" for q in TUNED_AT),
        ],
        rows,
    )


TUNED_AT = (200, 400, 800)
# Against which, each at its own rate, the choice of pairs and of the learner is judged.
TUNED_AGAINST = ("passive", "passive, replay 3", "passive, replay 4", "random, replay 3")


def health_table(runs: Runs) -> str:
    """A row per method with an ERM: accuracy, disagreement and agreement against queries."""
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
    at = (1500, 1600, 2000, 2400, 2800, 3200)
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
        "Made by `python -m studies.bandit`. The target is "
        f"{TARGET_SHARE:.0%} of the way from 0.5 to passive's last mean win rate under the same "
        "condition; in brackets 95% intervals over seeds (of queries and ratios by bootstrap, "
        "too narrow where there are few; of means Student's t). "
        "The *control of equal updates* is passive with as many updates of the policy a label, "
        "under the same condition: with so many prompts a round as the method has labels for an "
        "update after the warm-up. *replay n*: n further updates a round, each on 32 pairs drawn "
        "from all that the oracle has labelled. *steps*: updates of the policy at the end; *KL*: "
        "from its start, at the end, in nats; '-' where it was not measured or there is no such "
        "control; *alone*: the method gets there, the control never. Regret and the online win "
        "rate are of all duels that the oracle was asked about. "
        f"*Recipe*: {RECIPE}; else the selected pair and gamma 0.7.\n",
    ]
    for suite, runs in runs_by_suite.items():
        parts.append(f"## {TITLES[suite]}\n")
        if suite == "drift":
            parts.append(win_rate_table(runs))
            continue
        if suite == "tuned":
            parts.append(tuned_table(runs, every_run))
        parts.append(efficiency_table(runs, every_run))
        if suite in ("main", "tuned"):
            parts.append(replay_table(runs, every_run))
        if suite == "main":
            parts.append(variants_table(runs))
        if suite in ("main", "reward_model"):
            parts.append(health_table(runs))
    (out / "tables.md").write_text("\n".join(parts))
