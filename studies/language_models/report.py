"""Tables and pictures of what was run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from studies.bandit.methods import RECIPE
from studies.bandit.names import label
from studies.bandit.results import (
    BASELINE,
    TARGET_SHARE,
    Curves,
    can_draw,
    efficiency,
    queries_to,
    ratios_by_seed,
)
from studies.bandit.tables import last_cell, mean_at, needed_cells, ratio_text, table
from studies.language_models.curves import CAPABILITY
from studies.language_models.levels import levels_part
from studies.language_models.methods import control_of, replayed_control_of
from studies.language_models.tier import Tier

Runs = Mapping[str, Curves]
_CAPABILITY_TEXT = """
*finished*: share of responses that end by themselves; *repeated*: share of a response's word
trigrams that stood in it before; *copied*: share that stand in its prompt; *perplexity*: of
held-out reference responses, per token.

"""


def _controls(name: str, tier: Tier) -> tuple[str | None, str | None]:
    """A method's controls of equal updates: by small rounds, and by replay."""
    prompts = tier.prompts_per_round
    return control_of(name, prompts), replayed_control_of(name, prompts)


def _control_cell(name: str, control: str | None, runs: Runs) -> str:
    """Queries to the target, as a share of a control's."""
    if control not in runs:
        return "-"
    _, ratio = needed_cells(efficiency(runs[name], runs[BASELINE], runs[control]))
    return f"{ratio} of {label(control)}"


def win_rates_at_kl(curves: Curves, nats: float) -> np.ndarray:
    """Each seed's win rate where its policy is first so far from its start.

    Args:
        curves: Of a method.
        nats: The KL.

    Returns:
        (seeds that got so far,).
    """
    rates = []
    for kl, win_rate in zip(curves.columns["kl"], curves.columns["win_rate"], strict=True):
        known = ~np.isnan(kl)
        at = queries_to(nats, curves.queries[known], kl[known])
        if np.isfinite(at):
            rates.append(np.interp(at, curves.queries, win_rate))
    return np.array(rates)


def _at_kl_cell(curves: Curves, nats: float) -> str:
    """Their mean, and how many they are if some seed did not get so far."""
    rates, seeds = win_rates_at_kl(curves, nats), len(curves.seeds)
    if not len(rates):
        return "-"
    return f"{rates.mean():.3f}" + (f" ({len(rates)} of {seeds})" if len(rates) < seeds else "")


def efficiency_table(tier: Tier, runs: Runs) -> str:
    """A row per method: queries needed, final figures, and the cumulative regret."""
    last = float(runs[BASELINE].queries[-1])
    rows = [
        [
            label(name),
            str(len(curves.seeds)),
            *needed_cells(efficiency(curves, runs[BASELINE])),
            *(_control_cell(name, control, runs) for control in _controls(name, tier)),
            f"{mean_at(curves, 'win_rate', last / 2):.3f}",
            last_cell(curves, "win_rate", 3),
            f"{mean_at(curves, 'hard_win_rate', last):.3f}",
            last_cell(curves, "steps", 0),
            last_cell(curves, "kl", 1),
            _at_kl_cell(curves, tier.kl),
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
            "to the control of equal updates",
            "to the one that replays",
            f"win rate at {last / 2:.0f}",
            f"at {last:.0f}",
            "hard",
            "policy steps",
            "KL",
            f"win rate at {tier.kl:g} nats",
            "tokens",
            "cumulative pool regret",
        ],
        rows,
    )


def by_seed_table(tier: Tier, runs: Runs) -> str:
    """A row per method: each seed against its own passive, and against its own controls."""
    rows = []
    for name, curves in runs.items():
        cells = [label(name), *_ratio_cells(ratios_by_seed(curves, runs[BASELINE]))]
        for control in _controls(name, tier):
            cells += (
                _ratio_cells(ratios_by_seed(curves, runs[BASELINE], runs[control]))
                if control in runs
                else ("-", "-")
            )
        rows.append(cells)
    return table(
        [
            "each seed by itself",
            "ratio to passive, median",
            "by seed",
            "to the control, median",
            "by seed",
            "to the one that replays, median",
            "by seed",
        ],
        rows,
    )


def _ratio_cells(ratios: Mapping[int, float]) -> tuple[str, str]:
    """The median, and all in the order of the seeds."""
    middle = float(np.median(list(ratios.values())))
    return ratio_text(middle), ", ".join(map(ratio_text, ratios.values()))


def reward_model_table(runs: Runs) -> str:
    """A row per method: how the ERM did at a fifth, a half and all of the queries."""
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


def capability_table(runs: Runs) -> str:
    """A row per method: at the start and at the end, what a win rate may hide."""
    last = float(runs[BASELINE].queries[-1])
    rows = []
    for name, curves in runs.items():
        cells = [label(name), f"{mean_at(curves, 'win_rate', last):.3f}"]
        for column in CAPABILITY:
            ends = curves.columns[column][:, [0, -1]]
            measured = ends[~np.isnan(ends).any(axis=1)]
            cells.append(
                " / ".join(f"{v:.3g}" for v in measured.mean(axis=0)) if len(measured) else "-"
            )
            if 0 < len(measured) < len(ends):
                cells[-1] += f" ({len(measured)} seeds)"
        rows.append(cells)
    header = ["at the start / at the end", "win rate at the end", *CAPABILITY]
    return table(header, rows)


def write_report(out: Path, tier: Tier, runs: Runs, choice: str | None = None) -> None:
    """Writes ``tables.md`` and, if matplotlib is there, pictures of what has all seeds.

    Args:
        out: Folder.
        tier: What was run.
        runs: Curves by method, passive among them.
        choice: Of the tier's rates, if each method has one of its own.
    """
    command, at_rates = tier.command, ""
    if choice:
        command += f" --rates {choice}"
        of_methods = "; ".join(f"{label(name)} {tier.rates[choice][name]:g}" for name in runs)
        at_rates = f" Each at a learning rate of its own: {of_methods}."
    out.mkdir(parents=True, exist_ok=True)
    measured = all(set(CAPABILITY) <= set(curves.columns) for curves in runs.values())
    if not measured:
        print(f"no table of {', '.join(CAPABILITY)}: the runs are older than these columns")
    (out / "tables.md").write_text(
        f"# {tier.title}: tables\n\nMade by `{command}`.{at_rates} The target "
        f"is {TARGET_SHARE:.0%} of the way from 0.5 to passive's last mean win rate; in brackets "
        "95% intervals over seeds (of queries and ratios by bootstrap, too narrow where there are "
        "few; of means Student's t). Win rates are soft, "
        f"`evaluation/{tier.win_rate}`: mean hidden preference probabilities of responses to "
        "held-out prompts over the initial policy's; *hard* is the share of greedy ones that wins; "
        f"*at {tier.kl:g} nats*: where a run's KL first is that, in brackets how many runs came "
        "so far. "
        f"*Recipe*: {RECIPE}; else the selected pair and gamma 0.7. The *control of equal updates* "
        "is passive with as many policy steps per label as the method makes after the warm-up, by "
        "smaller rounds; *the one that replays* makes them on its old labels (`policy_replay`); "
        "*alone*: the method gets there, the other never.\n\n"
        + (levels_part(runs, tier.rates[choice]) if choice else "")
        + efficiency_table(tier, runs)
        + "\nThe target of a seed is read off its own passive run.\n\n"
        + by_seed_table(tier, runs)
        + "\n*accuracy*: of the mean reward on labels that it had not seen, noise and all; "
        "*label_accuracy*: of the ERM's own labels against the hidden reward.\n\n"
        + reward_model_table(runs)
        + (_CAPABILITY_TEXT + capability_table(runs) if measured else "")
    )
    if not can_draw():
        return
    # Seeds are worlds of their own: what is drawn together has the same.
    seeds = runs[BASELINE].seeds
    drawn = {n: curves.only(seeds) for n, curves in runs.items() if set(seeds) <= set(curves.seeds)}
    for name in runs:
        if name not in drawn:
            print(f"not drawn, since it lacks seeds that {BASELINE} has: {name}")
    from studies.bandit import pictures

    pictures.queries_needed(drawn, out)
    for picture in (
        pictures.win_rates,
        pictures.same_win_rate,
        pictures.win_rate_by_kl,
        pictures.win_rate_by_steps,
    ):
        picture(drawn, out, tuple(drawn))
