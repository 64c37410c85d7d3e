"""Each method at its own learning rate and beta, controls included: which are the best?

    python -m studies.bandit.rates    # on seeds that are in no result; 570 runs, about an hour
    python -m studies.bandit.rates --methods passive --betas 0.1 --rates 4e-2 8e-2

A rate that suits one method may hold another back. For each method the mean of
its win rate over all measured labels, which counts speed and end alike, over the seeds; the best
stands in :data:`studies.bandit.methods.BEST_RATES`, and is run on other seeds by
`python -m studies.bandit --suites tuned`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from studies.bandit.methods import BEST_RATES, SUITES
from studies.bandit.settings import Settings
from studies.bandit.simulation import Simulation

SEEDS = (100, 101, 102)
RATES = (2e-3, 5e-3, 1e-2, 2e-2, 4e-2)
BETAS = (0.1, 0.02)


def candidates(
    method: str, betas: Sequence[float] = BETAS, rates: Sequence[float] = RATES
) -> Iterator[Settings]:
    """A method's settings with each rate and beta."""
    settings = next(suite.methods[method] for suite in SUITES.values() if method in suite.methods)
    for beta in betas:
        for lr in rates:
            yield replace(settings, lr=lr, beta=beta, best_of_n=None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods", nargs="+", choices=BEST_RATES, default=list(BEST_RATES), metavar="NAME"
    )
    parser.add_argument("--betas", type=float, nargs="+", default=BETAS, help=f"{BETAS}")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help=f"{RATES}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| method | beta | rate | mean win rate | at the end | KL |\n|---|---|---|---|---|---|")
    for method in arguments.methods:
        for settings in candidates(method, arguments.betas, arguments.rates):
            runs = [Simulation(settings, seed).run() for seed in SEEDS]
            mean = np.mean([[row["win_rate"] for row in run] for run in runs])
            end, kl = (np.mean([run[-1][name] for run in runs]) for name in ("win_rate", "kl"))
            print(
                f"| {method} | {settings.beta:g} | {settings.lr:g} | {mean:.3f} | {end:.3f} "
                f"| {kl:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
