"""Labels to fixed win rates, and what that is of online DPO's labels, whichever form needs fewest.

A target that is read off one baseline moves with it, and says nothing of what another setting of
that baseline would need. Fixed levels do not move, and at each a method is held against the best
of all forms of online DPO that were run (small rounds, replay), chosen afterwards, in their favour.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from studies.bandit.names import label
from studies.bandit.results import BASELINE, NUM_RESAMPLES, Curves, interval, queries_to
from studies.bandit.tables import ratio_text, table

LEVELS = (0.65, 0.7, 0.75, 0.8)


def is_online_dpo(method: str) -> bool:
    """Whether a method is online DPO on real labels alone: no choice of pairs, no ERM."""
    return method.partition(",")[0] == BASELINE


def ratios_to_online_dpo(
    level: float, win_rates: Mapping[str, np.ndarray], queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels to a level on mean curves, and as shares of what the best form of online DPO needs.

    Args:
        level: Of the win rate.
        win_rates: (S, G) by method, of the same seeds; one of them online DPO.
        queries: (G,).

    Returns:
        (methods,) labels, and (methods,) ratios to those of the form of online DPO that needs
        fewest: both infinite where the method never gets there, the ratio 0 where no form does.
    """
    needed = np.array([queries_to(level, queries, w.mean(axis=0)) for w in win_rates.values()])
    fewest = min(n for n, name in zip(needed, win_rates, strict=True) if is_online_dpo(name))
    return needed, np.array([n / fewest if np.isfinite(n) else np.inf for n in needed])


def levels_part(runs: Mapping[str, Curves], rates: Mapping[str, float]) -> str:
    """The tables, each of the methods that have the same seeds beside online DPO's.

    Args:
        runs: Curves by method, the baseline among them.
        rates: The ``policy_lr`` of each.
    """
    shared = (np.intersect1d(c.seeds, runs[BASELINE].seeds) for c in runs.values())
    parts = []
    for seeds in dict.fromkeys(tuple(seeds.tolist()) for seeds in shared):
        # Who has more seeds than these is in this table, too, with these alone.
        those = {n: c.only(np.array(seeds)) for n, c in runs.items() if {*seeds} <= {*c.seeds}}
        parts.append(
            f"Seeds {', '.join(map(str, seeds))}. *Mean win rate*: over the whole curve, beside "
            "it the paired difference to the best of the forms of online DPO (passive), with its "
            "95% interval and the seeds ahead. *Ratio*: of the labels to that win rate to those "
            "of the form of online DPO that needs fewest for it; *alone*: none gets there.\n\n"
            + levels_table(those, rates)
        )
    return "\n".join(parts) + "\n"


def levels_table(runs: Mapping[str, Curves], rates: Mapping[str, float]) -> str:
    """A row per method.

    Args:
        runs: Curves by method, of the same seeds, the baseline among them.
        rates: The ``policy_lr`` of each.
    """
    win_rates = {name: curves.columns["win_rate"] for name, curves in runs.items()}
    queries, shared = runs[BASELINE].queries, runs[BASELINE].seeds
    means = {name: w.mean(axis=1) for name, w in win_rates.items()}
    best = max(filter(is_online_dpo, means), key=lambda name: means[name].mean())
    draws = np.random.default_rng(0).integers(len(shared), size=(NUM_RESAMPLES, len(shared)))
    cells: dict[str, list[str]] = {
        name: [label(name), f"{rates[name]:g}", f"{mean.mean():.3f}", _paired(mean - means[best])]
        for name, mean in means.items()
    }
    for level in LEVELS:
        needed, ratios = ratios_to_online_dpo(level, win_rates, queries)
        resampled = [
            ratios_to_online_dpo(level, {n: w[rows] for n, w in win_rates.items()}, queries)[1]
            for rows in draws
        ]
        low, high = np.quantile(resampled, [0.025, 0.975], axis=0, method="inverted_cdf")
        for i, row in enumerate(cells.values()):
            count = f"{needed[i]:.0f}" if np.isfinite(needed[i]) else "never"
            row.append(
                f"{count}; {ratio_text(ratios[i])} [{ratio_text(low[i])}, {ratio_text(high[i])}]"
            )
    header = ["method", "`policy_lr`", "mean win rate", f"minus that of {label(best)}"]
    return table([*header, *(f"labels to {level:g}; ratio" for level in LEVELS)], [*cells.values()])


def _paired(differences: np.ndarray) -> str:
    """Mean and half interval of (S,) differences, and in how many seeds they are above 0."""
    if len(differences) < 2 or not differences.any():
        return "-" if not differences.any() else f"{differences.mean():+.3f}"
    mean, low, _ = interval(differences[:, None])
    ahead = int((differences > 0).sum())
    return f"{mean[0]:+.3f} +- {mean[0] - low[0]:.3f} ({ahead} of {len(differences)})"
