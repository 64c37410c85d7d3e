"""Pictures and tables of what was run; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from studies.bandit.controls import CONTROLLED
from studies.bandit.methods import EARLY, FEWEST, RECIPE, TUNED_SUFFIX
from studies.bandit.names import color, label, line_style, pale
from studies.bandit.results import BASELINE, Curves, efficiency, interval, queries_to

mpl.use("Agg")
plt.rcParams |= {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "font.size": 11,
    "savefig.dpi": 120,
    "savefig.bbox": "tight",
}
Runs = Mapping[str, Curves]
BAND_SEEDS = 5


# -- Parts ----------------------------------------------------------------------------


def draw_lines(axes: Axes, runs: Runs, column: str, *, text: Callable[[str], str] = label) -> None:
    """Means over seeds with 95% bands, each line with its name at its end.

    Of fewer seeds than :data:`BAND_SEEDS` a band says nothing: thin lines, one a seed, instead.
    """
    ends = []
    for name, curves in runs.items():
        known = ~np.isnan(curves.columns[column]).any(axis=0)
        queries = curves.queries[known]
        mean, low, high = interval(curves.columns[column][:, known])
        axes.plot(queries, mean, color=color(name), linestyle=line_style(name), linewidth=2)
        if len(curves.seeds) < BAND_SEEDS:
            seeds = curves.columns[column][:, known].T
            axes.plot(queries, seeds, color=color(name), alpha=0.35, linewidth=0.8)
        else:
            axes.fill_between(queries, low, high, color=color(name), alpha=0.15, linewidth=0)
        ends.append((float(mean[-1]), text(name), color(name)))
    last = max(float(curves.queries[-1]) for curves in runs.values())
    axes.set_xlim(0, last)
    axes.set_xlabel("queries to the oracle")
    if column == "win_rate":  # Student's band goes beyond what a win rate can be
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.0))
    _end_labels(axes, last, ends)


def _end_labels(axes: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Names right of the lines' ends, moved apart if they would overlap."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_figheight()  # inches
    gap = (high - low) * 0.19 / height
    ends = sorted(ends)
    places = np.array([y for y, _, _ in ends])
    for _ in range(200):
        for i in range(1, len(places)):
            lack = gap - (places[i] - places[i - 1])
            if lack > 0:
                places[i - 1] -= lack / 2
                places[i] += lack / 2
    for place, (y, text, shade) in zip(places, ends, strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(x * 1.035, place),
            color=shade,
            va="center",
            fontsize=10,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": shade,
                "lw": 0.8,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def save(out: Path, name: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    plt.savefig(out / f"{name}.png")
    plt.close()


def some(runs: Runs, names: tuple[str, ...] | list[str]) -> dict[str, Curves]:
    return {name: runs[name] for name in names if name in runs}


# -- The main suite -------------------------------------------------------------------


def win_rates(runs: Runs, out: Path, names: tuple[str, ...]) -> None:
    _, axes = plt.subplots(figsize=(8, 5))
    draw_lines(axes, some(runs, names), "win_rate")
    seeds = len(runs[BASELINE].seeds)
    axes.set_title("Win rate of the policy over its start")
    spread = "95% band" if seeds >= BAND_SEEDS else "thin: each"
    of = "one seed" if seeds == 1 else f"mean of {seeds} seeds, {spread}"
    axes.set_ylabel(f"win rate ({of})")
    save(out, "win_rate")


def win_rate_by_kl(runs: Runs, out: Path, names: tuple[str, ...]) -> None:
    """What a method makes of the distance that it goes: means over seeds, a point per measurement.

    Args:
        runs: Curves by method, with columns ``win_rate`` and ``kl``.
        out: Folder.
        names: What is drawn of it.
    """
    axes = _win_rate_by("kl", some(runs, names))
    axes.set_xlabel("KL from the initial policy, nats a response")
    axes.set_title("What is gained for how far the policy goes")
    save(out, "win_rate_by_kl")


def win_rate_by_steps(runs: Runs, out: Path, names: tuple[str, ...]) -> None:
    """What a method makes of its policy's updates, whatever they cost in labels."""
    axes = _win_rate_by("steps", some(runs, names))
    axes.set_xlabel("updates of the policy")
    axes.set_title("What is gained for how often the policy is updated")
    save(out, "win_rate_by_steps")


def _win_rate_by(column: str, runs: Runs) -> Axes:
    """Win rates against another column than the queries, if that was measured."""
    _, axes = plt.subplots(figsize=(8, 5))
    for name, curves in runs.items():
        if column not in curves.columns:
            continue
        along, height = (curves.columns[c].mean(axis=0) for c in (column, "win_rate"))
        axes.plot(
            along,
            height,
            color=color(name),
            linestyle=line_style(name),
            linewidth=1.5,
            marker=".",
            label=label(name),
        )
        axes.plot(along[-1], height[-1], "o", color=color(name), markersize=8)
    axes.set_ylabel("win rate over the initial policy")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return axes


def queries_needed(runs: Runs, out: Path) -> None:
    """All methods, the one that needs fewest queries on top."""
    baseline = runs[BASELINE]
    rows = sorted(
        ((efficiency(curves, baseline), name) for name, curves in runs.items()),
        key=lambda row: (row[0].queries, -runs[row[1]].columns["win_rate"][:, -1].mean()),
        reverse=True,
    )
    _, axes = plt.subplots(figsize=(8, 0.28 * len(rows) + 1))
    never = float(baseline.queries[-1]) * 1.08
    for place, (result, name) in enumerate(rows):
        shade = color(name)
        if not np.isfinite(result.queries):
            axes.plot(never, place, marker=">", color=shade, clip_on=False)
            continue
        low, high = (min(end, never) for end in result.queries_interval)
        axes.plot([low, high], [place, place], color=shade, linewidth=2)
        filled = "white" if line_style(name) in ("--", "-.") else shade
        axes.plot(result.queries, place, "o", color=shade, markerfacecolor=filled, markersize=7)
        axes.annotate(
            f"{result.ratio:.2f}",
            (max(high, result.queries), place),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="#555555",
        )
    passive = efficiency(baseline, baseline).queries
    for share, text in ((1.0, "passive"), (0.5, "half"), (0.4, "0.4")):
        axes.axvline(share * passive, color="#999999", linewidth=1, linestyle=":")
        axes.annotate(
            text,
            (share * passive, len(rows) - 0.4),
            ha="center" if share != 0.4 else "right",
            fontsize=9,
            color="#777777",
            annotation_clip=False,
        )
    axes.set_yticks(range(len(rows)), [label(name) for _, name in rows])
    axes.set_xlim(0, never)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(
        "queries to passive's final level (95% interval; number: ratio to passive; > never)"
    )
    axes.set_title("Queries needed", pad=16)
    save(out, "queries_needed")


def same_win_rate(runs: Runs, out: Path, names: tuple[str, ...]) -> None:
    """The paper's Figure 1, right."""
    _, axes = plt.subplots(figsize=(7, 5.5))
    baseline = runs[BASELINE]
    base = baseline.columns["win_rate"].mean(axis=0)
    levels = np.linspace(base[2], base[-1], 60)
    passive = np.array([queries_to(level, baseline.queries, base) for level in levels])
    last = float(baseline.queries[-1])
    ends, num_never = [], 0
    for name in names:
        if name not in runs or name == BASELINE:
            continue
        mean = runs[name].columns["win_rate"].mean(axis=0)
        needed = np.array([queries_to(level, runs[name].queries, mean) for level in levels])
        known = np.isfinite(needed)
        axes.plot(
            passive[known],
            needed[known],
            color=color(name),
            linestyle=line_style(name),
            linewidth=2,
        )
        if known[-1]:
            ends.append((float(needed[-1]), label(name), color(name)))
        else:
            # Leaves the picture at its top: the names stand there, one above the other.
            axes.annotate(
                label(name),
                (passive[known][-1], last),
                (0, 4 + 12 * num_never),
                textcoords="offset points",
                color=color(name),
                ha="center",
                fontsize=10,
            )
            num_never += 1
    for share, text in ((1.0, "as many"), (0.5, "half"), (0.4, "0.4")):
        axes.plot([0, last], [0, share * last], color="#aaaaaa", linewidth=1, linestyle=":")
        axes.annotate(
            text,
            (0.8 * last, share * 0.8 * last),
            color="#777777",
            fontsize=9,
            rotation=float(np.degrees(np.arctan(share * 0.77))),
            rotation_mode="anchor",
            va="top",
        )
    axes.set_xlim(0, last)
    axes.set_ylim(0, last)
    _end_labels(axes, last, ends)
    axes.set_xlabel("queries that passive needs for a win rate")
    axes.set_ylabel("queries that the method needs for it")
    axes.set_title("Queries for the same win rate", pad=18 + 12 * num_never)
    save(out, "same_win_rate")


def direct_optimizers(runs: Runs, out: Path) -> None:
    """The paper's Figure 5, its direct optimizers: methods without a reward model beside SEA."""
    names = ("passive", "iterative", "offline", "xpo", "selm", "apl", f"bai_ts+mix, {RECIPE}")
    _, axes = plt.subplots(figsize=(8, 5))
    draw_lines(axes, some(runs, names), "win_rate")
    axes.set_title("Methods without a reward model, and SEA")
    axes.set_ylabel("win rate over the start")
    save(out, "direct_optimizers")


def regrets(runs: Runs, out: Path) -> None:
    """The paper's Figure 7: explore and exploit against best arm identification."""
    names = (
        "passive",
        "ee_ts+mix",
        "bai_ts+mix",
        f"bai_ts+mix, {RECIPE}",
        "uncertainty+mix",
        "drts+mix",
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8))
    figure.subplots_adjust(wspace=0.62)
    draw_lines(left, some(runs, names), "regret")
    left.set_title("Online: cumulative regret (low is good)")
    left.set_ylabel("sum over queries")
    draw_lines(right, some(runs, names), "win_rate")
    right.set_title("Offline: win rate of the policy")
    save(out, "regret")


# The paper's numbers: a policy alone, and the same with the best of N by the ERM at test time.
VARIANTS = {"passive": (1, 4), "bai_ts": (2, 5), "bai_ts+mix": (3, 6), "reward_model_only": (0, 7)}


def variants(runs: Runs, out: Path) -> None:
    """The paper's Figure 6."""
    _, axes = plt.subplots(figsize=(8, 5))
    ends = []
    for name, curves in some(runs, list(VARIANTS)).items():
        alone, with_best = VARIANTS[name]
        shade = pale(color(name)) if name == "bai_ts" else color(name)  # beside SEA
        lines = [(with_best, "best_of_n", "--", f"{with_best}: {label(name)}, best of 8")]
        if alone:
            lines.append((alone, "win_rate", "-", f"{alone}: {label(name)}"))
        for _, column, style, text in lines:
            known = ~np.isnan(curves.columns[column]).any(axis=0)
            mean, low, high = interval(curves.columns[column][:, known])
            queries = curves.queries[known]
            axes.plot(queries, mean, color=shade, linestyle=style, linewidth=2)
            axes.fill_between(queries, low, high, color=shade, alpha=0.15, linewidth=0)
            ends.append((float(mean[-1]), text, shade))
    last = float(runs[BASELINE].queries[-1])
    axes.set_xlim(0, last)
    _end_labels(axes, last, ends)
    axes.set_xlabel("queries to the oracle")
    axes.set_ylabel("win rate over the start")
    axes.set_title("The seven variants of SEA's ablation")
    save(out, "variants")


# -- Sweeps ---------------------------------------------------------------------------


def _row_of_panels(
    runs: Runs, panels: Mapping[str, Mapping[str, str]], out: Path, name: str, title: str
) -> None:
    """One panel per condition, the same methods in each.

    Args:
        runs: All runs.
        panels: For each title, the runs' names by the method that they show.
        out: Folder.
        name: File.
        title: Of the whole.
    """
    panels = {
        text: {method: run for method, run in by_method.items() if run in runs}
        for text, by_method in panels.items()
    }
    panels = {text: by_method for text, by_method in panels.items() if by_method}
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(3.1 * len(panels) + 1.5, 3.8), sharey=True, squeeze=False
    )
    figure.suptitle(title, x=0.07, y=1.02, ha="left", weight="bold")
    for axes, (text, by_method) in zip(all_axes[0], panels.items(), strict=True):
        drawn = {method: runs[run] for method, run in by_method.items()}
        for method, curves in drawn.items():
            mean, low, high = interval(curves.columns["win_rate"])
            axes.plot(
                curves.queries, mean, color=color(method), linestyle=line_style(method), linewidth=2
            )
            axes.fill_between(curves.queries, low, high, color=color(method), alpha=0.15, lw=0)
        axes.set_title(text)
        axes.set_xlabel("queries")
        axes.set_xlim(0, float(next(iter(drawn.values())).queries[-1]))
        if axes is all_axes[0][-1]:
            ends = [
                (float(c.columns["win_rate"][:, -1].mean()), label(m), color(m))
                for m, c in drawn.items()
            ]
            _end_labels(axes, float(next(iter(drawn.values())).queries[-1]), ends)
    all_axes[0][0].set_ylabel("win rate over the start")
    save(out, name)


COMPARED = ("passive", "bai_ts+mix", "drts+mix")


def _conditions(texts: Mapping[str, str], methods: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Panels by title; an empty suffix is the main suite's run."""
    return {
        title: {m: f"{m}, {suffix}" if suffix else m for m in methods}
        for title, suffix in texts.items()
    }


def sweeps(runs: Runs, out: Path) -> None:
    labellers = {
        "Bradley-Terry": "",
        "10% flipped": "flip 0.1",
        "30% flipped": "flip 0.3",
        "weak (0.3 of the gap)": "weak labeller",
    }
    fewest = ("passive", *FEWEST)
    rates = {
        "lr 0.001": "lr 0.001",
        "lr 0.002": "",
        "lr 0.003": "lr 0.003",
        "lr 0.005": "lr 0.005",
    }
    losses = {"DPO": "", "IPO": "ipo", "IPO, beta 0.05": "ipo beta 0.05", "SLiC": "slic"}
    if any("flip" in name for name in runs):
        panels = _conditions(labellers, fewest)
        _row_of_panels(runs, panels, out, "noise", "Labellers that err more")
    if any("lr 0" in name for name in runs):
        _row_of_panels(
            runs, _conditions(rates, COMPARED), out, "learning_rate", "The policy's learning rate"
        )
    if any("slic" in name for name in runs):
        _row_of_panels(runs, _conditions(losses, COMPARED[:2]), out, "losses", "Direct losses")
    drifted = {m: runs[f"{m}, drift"] for m in fewest if f"{m}, drift" in runs}
    if drifted:
        _, axes = plt.subplots(figsize=(8, 5))
        draw_lines(axes, drifted, "win_rate")
        axes.axvline(1600, color="#777777", linestyle=":")
        axes.annotate(" preferences drift", (1600, axes.get_ylim()[1]), color="#777777", va="top")
        axes.set_title("Win rate over the start by the preferences of the day")
        axes.set_ylabel("win rate")
        save(out, "drift")


def tuned(runs: Runs, out: Path) -> None:
    """Each method at its own learning rate and beta."""
    names = tuple(f"{name}{TUNED_SUFFIX}" for name in TUNED_SHOWN)
    if names[0] not in runs:
        return
    _, axes = plt.subplots(figsize=(8, 5))
    draw_lines(
        axes,
        some(runs, names),
        "win_rate",
        text=lambda name: label(name.removesuffix(TUNED_SUFFIX)),
    )
    axes.set_title("Each method at its own learning rate")
    axes.set_ylabel("win rate over the start")
    save(out, "tuned")


TUNED_SHOWN = (
    "passive",
    "passive, replay 3",
    "random, replay 3",
    "bai_ts, replay 3",
    "bai_ts+mix",
    f"bai_ts+mix, {RECIPE}, from 64",
    f"bai_ts+mix, gamma 0.5, {EARLY}",
    f"bai_ts+mix, gamma 0.1, {EARLY}",
)


def reward_models(runs: Runs, out: Path) -> None:
    """What the ERM's settings do to the ERM, and to the queries that SEA needs."""
    prefix = "bai_ts+mix, "
    others = {
        name.removeprefix(prefix): curves
        for name, curves in runs.items()
        if name.startswith(prefix) and any(w in name for w in ("lambda", "prior", "bootstrap"))
    }
    if "bai_ts+mix" not in runs or not others:
        return
    rows = {"lambda 0.5 (SEA)": runs["bai_ts+mix"]} | others
    at = int(np.nonzero(runs[BASELINE].queries == 1000)[0][0])
    figure, all_axes = plt.subplots(1, 4, figsize=(14, 0.35 * len(rows) + 1.2), sharey=True)
    figure.suptitle(
        "Reward model settings under SEA: the ERM at 1000 queries, and the queries needed",
        x=0.07,
        y=1.02,
        ha="left",
        weight="bold",
    )
    titles = ("accuracy", "disagreement", "agreement")
    for axes, column in zip(all_axes, titles, strict=False):
        for place, curves in enumerate(rows.values()):
            mean, low, high = interval(curves.columns[column][:, [at]])
            axes.plot([low[0], high[0]], [place, place], color="#c0392b", linewidth=2)
            axes.plot(mean[0], place, "o", color="#c0392b")
        axes.set_title(column)
    for place, curves in enumerate(rows.values()):
        result = efficiency(curves, runs[BASELINE])
        all_axes[3].plot(result.ratio_interval, [place, place], color="#c0392b", linewidth=2)
        all_axes[3].plot(result.ratio, place, "o", color="#c0392b")
    all_axes[3].set_title("queries / passive's")
    all_axes[0].set_yticks(range(len(rows)), list(rows))
    all_axes[0].invert_yaxis()
    save(out, "reward_model")


def draw(out: Path, runs_by_suite: Mapping[str, Runs]) -> None:
    """All pictures of which there are runs.

    Args:
        out: Folder.
        runs_by_suite: Curves by method, by suite.
    """
    runs: dict[str, Curves] = {k: v for suite in runs_by_suite.values() for k, v in suite.items()}
    main = {**runs_by_suite["main"], **runs_by_suite.get("early", {})}
    main = {name: c for name, c in main.items() if len(c.seeds) == len(main[BASELINE].seeds)}
    for controlled in (win_rates, same_win_rate, win_rate_by_steps, win_rate_by_kl):
        controlled(main, out, CONTROLLED)
    for picture in (
        queries_needed,
        direct_optimizers,
        regrets,
        variants,
    ):
        picture(main, out)
    sweeps(runs, out)
    tuned(runs, out)
    reward_models(runs, out)
