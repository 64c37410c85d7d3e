"""Tables and pictures of what was run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.language_models.tier import Tier
from benchmarks.sample_efficiency.methods import RECIPE
from benchmarks.sample_efficiency.names import label
from benchmarks.sample_efficiency.results import (
    BASELINE,
    TARGET_SHARE,
    Curves,
    can_draw,
    efficiency,
)
from benchmarks.sample_efficiency.tables import mean_at, needed_cells, table

Runs = Mapping[str, Curves]


def efficiency_table(runs: Runs) -> str:
    """A row a method: queries needed, final figures, and the cumulative regret."""
    last = float(runs[BASELINE].queries[-1])
    rows = [
        [
            label(name),
            str(len(curves.seeds)),
            *needed_cells(efficiency(curves, runs[BASELINE])),
            f"{mean_at(curves, 'win_rate', last / 2):.3f}",
            f"{mean_at(curves, 'win_rate', last):.3f}",
            f"{mean_at(curves, 'hard_win_rate', last):.3f}",
            f"{mean_at(curves, 'kl', last):.1f}",
            f"{mean_at(curves, 'evaluated_length', last):.1f}",
            f"{mean_at(curves, 'regret', last):.0f}",
        ]
        for name, curves in runs.items()
    ]
    return table(
        [
            "method",
            "seeds",
            "queries to target",
            "ratio to passive",
            f"win rate at {last / 2:.0f}",
            f"at {last:.0f}",
            "hard",
            "KL",
            "tokens",
            "cumulative pool regret",
        ],
        rows,
    )


def reward_model_table(runs: Runs) -> str:
    """A row a method: how the ERM did at a fifth, a half and all of the queries."""
    last = float(runs[BASELINE].queries[-1])
    columns = ("accuracy", "disagreement", "agreement", "label_accuracy")
    rows = []
    for name, curves in runs.items():
        cells = [label(name)]
        for column in columns:
            # Synthetic labels are there only with mixing, and only after the warm-up.
            values = [mean_at(curves, column, share * last) for share in (0.2, 0.5, 1.0)]
            cells.append(" / ".join("-" if np.isnan(v) else f"{v:.3f}" for v in values))
        rows.append(cells)
    at = " / ".join(f"{share * last:.0f}" for share in (0.2, 0.5, 1.0))
    return table([f"ERM at {at} queries", *columns], rows)


def write_report(out: Path, tier: Tier, runs: Runs) -> None:
    """Writes ``tables.md`` and, where matplotlib is there, pictures of what has all seeds.

    Args:
        out: Folder.
        tier: What was run.
        runs: Curves by method, passive among them.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "tables.md").write_text(
        f"# {tier.title}: tables\n\nMade by `{tier.command}`. The target "
        f"is {TARGET_SHARE:.0%} of the way from 0.5 to passive's last mean win rate; in brackets "
        "95% bootstrap intervals over seeds. Win rates are soft: the mean hidden preference "
        "probability of greedy responses to held-out prompts over the initial policy's; "
        "*hard* is the share that wins. "
        f"*Recipe*: {RECIPE}; else the selected pair and gamma 0.7.\n\n"
        + efficiency_table(runs)
        + "\n*accuracy*: of the mean reward on labels that it had not seen, noise and all; "
        "*label_accuracy*: of the ERM's own labels against the hidden reward.\n\n"
        + reward_model_table(runs)
    )
    if not can_draw():
        return
    every = set(runs[BASELINE].seeds)
    drawn = {name: curves for name, curves in runs.items() if every <= set(curves.seeds)}
    for name in runs:
        if name not in drawn:
            print(f"not drawn, since it lacks seeds that {BASELINE} has: {name}")
    from benchmarks.language_models.pictures import win_rate_by_kl
    from benchmarks.sample_efficiency import pictures

    for picture in (
        pictures.win_rates,
        pictures.queries_needed,
        pictures.same_win_rate,
        pictures.direct_optimizers,
        pictures.regrets,
        win_rate_by_kl,
    ):
        picture(drawn, out)
