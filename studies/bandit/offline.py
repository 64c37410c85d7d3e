"""Offline DPO with ten times the labels, beside methods that choose and mix online with one time.

    python -m studies.bandit.offline

Offline, the initial policy samples all responses. With 32000 labels 32 a step are 1000 steps, as
many as REINFORCE with gamma 0.1 makes with 3200; replay 3 makes four times as many of the same
labels. The figures of the methods with 3200 labels are those of `runs/`. 20 seeds, half an hour.
"""

from __future__ import annotations

import numpy as np
import torch

from studies.bandit.__main__ import OUT
from studies.bandit.methods import EARLY, RECIPE
from studies.bandit.results import interval, read_runs
from studies.bandit.settings import Settings
from studies.bandit.simulation import Simulation

LABELS, NUM_SEEDS = 32000, 20
OFFLINE = {
    f"offline, {LABELS} labels": Settings("passive", sync_interval=None, query_budget=LABELS),
    f"offline, {LABELS} labels, replay 3": Settings(
        "passive", sync_interval=None, query_budget=LABELS, policy_replay=3
    ),
}
ONLINE = {
    "main": ("passive", "offline"),
    "early": (
        f"bai_ts+mix, {RECIPE}, from 64",
        f"bai_ts+mix, gamma 0.2, {EARLY}",
        f"bai_ts+mix, gamma 0.1, {EARLY}",
    ),
}


def main() -> None:
    torch.set_num_threads(1)
    print("| method | labels | win rate | KL | updates |\n|---|---|---|---|---|")
    for suite, names in ONLINE.items():
        runs = read_runs(OUT / "runs" / f"{suite}.csv")
        for name in names:
            columns = {key: values[:, -1] for key, values in runs[name].columns.items()}
            _print(name, int(runs[name].queries[-1]), columns)
    for name, settings in OFFLINE.items():
        ends = [Simulation(settings, seed).run()[-1] for seed in range(NUM_SEEDS)]
        _print(name, LABELS, {key: np.array([end[key] for end in ends]) for key in ends[0]})


def _print(name: str, labels: int, columns: dict[str, np.ndarray]) -> None:
    """A row of the table: means over seeds, the win rate's with its interval."""
    mean, low, _ = (float(values[0]) for values in interval(columns["win_rate"][:, None]))
    kl, steps = (columns[key].mean() for key in ("kl", "steps"))
    print(f"| {name} | {labels} | {mean:.3f} +- {mean - low:.3f} | {kl:.1f} | {steps:.0f} |")


if __name__ == "__main__":
    main()
