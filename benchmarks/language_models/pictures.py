"""The picture that only policies with a KL have; needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt

from benchmarks.sample_efficiency.names import color, label, line_style
from benchmarks.sample_efficiency.pictures import HEADLINE, Runs, save, some


def win_rate_by_kl(runs: Runs, out: Path) -> None:
    """What a method makes of the distance that it goes: means over seeds, a point a measurement.

    Writes ``win_rate_by_kl.png``.

    Args:
        runs: Curves by method, with columns ``win_rate`` and ``kl``.
        out: Folder.
    """
    _, axes = plt.subplots(figsize=(8, 5))
    for name, curves in some(runs, HEADLINE).items():
        distance = curves.columns["kl"].mean(axis=0)
        height = curves.columns["win_rate"].mean(axis=0)
        axes.plot(
            distance,
            height,
            color=color(name),
            linestyle=line_style(name),
            linewidth=1.5,
            marker=".",
            label=label(name),
        )
        axes.plot(distance[-1], height[-1], "o", color=color(name), markersize=8)
    axes.set_xlabel("KL from the initial policy, nats a response")
    axes.set_ylabel("win rate over the initial policy (soft)")
    axes.set_title("What is gained for how far the policy goes")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    save(out, "win_rate_by_kl")
