"""How far apart the duelled responses are, and how often labels are right.

    python -m studies.bandit.duel_gaps

Means over the duels between 320 and 1200 queries of 3 seeds: the gap of hidden rewards, the share
of right labels, for those of the oracle and for those of the ERM. A few minutes on one core.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from studies.bandit.methods import SUITES
from studies.bandit.simulation import Simulation

SHOWN = {
    "main": ("passive+mix", "random+mix", "infomax+mix", "ee_ts+mix", "bai_ts+mix", "drts+mix"),
    "reward_model": ("bai_ts+mix, lambda between", "bai_ts+mix, lambda of the mean"),
    "combined": ("drts+mix, lambda between",),
}
START, END, NUM_SEEDS = 320, 1200, 3


def main() -> None:
    torch.set_num_threads(1)
    print("| method | gap, oracle's | right | gap, ERM's | right |\n|---|---|---|---|---|")
    for suite, names in SHOWN.items():
        for name in names:
            settings = replace(SUITES[suite].methods[name], query_budget=END, best_of_n=None)
            gaps: dict[bool, list[float]] = {True: [], False: []}  # signed, by whether it is real
            for seed in range(NUM_SEEDS):
                simulation = Simulation(settings, seed)
                rewards = simulation.world.rewards[0].numpy()
                while simulation.queries < END:
                    late = simulation.queries >= START
                    duels = simulation.step()
                    scores = (
                        rewards[duels.prompts, duels.first],
                        rewards[duels.prompts, duels.second],
                    )
                    signed = (scores[0] - scores[1]) * np.where(duels.first_wins, 1, -1)
                    for real in (True, False):
                        if late:
                            gaps[real].extend(signed[duels.valid & (duels.real == real)])
            cells = [
                f"{np.abs(values).mean():.2f} | {(np.array(values) > 0).mean():.3f}"
                for values in gaps.values()
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
