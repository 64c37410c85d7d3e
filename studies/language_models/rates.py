"""Each method of a tier at several learning rates, controls included: which is the best?

    python -m studies.language_models.rates tiny_lm --methods passive --rates 2e-4 4e-4
    python -m studies.language_models.rates tiny_lm --draw    # the table from the file alone

On seeds that are in no result. What counts is the mean win rate over all points of a curve, speed
and end alike. The tier's ``rates`` have the best, as *best*, and the best of those that leave the
held-out text at most three times as unlikely as it was, as *careful*; `python -m studies.tiny_lm
--rates best` runs them on other seeds. Runs are kept in runs/choosing_<queries>.csv.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from studies.bandit.results import Curves, read_runs
from studies.bandit.tables import table
from studies.language_models.command import run_missing
from studies.language_models.methods import METHODS, method_keys
from studies.language_models.tier import Tier
from text_duel.errors import ConfigError

FIRST_SEED = 100
_AT_THE_END = (("win_rate", 3), ("kl", 1), ("evaluated_length", 1), ("perplexity", 0))


def name_of(method: str, rate: float, beta: float | None = None) -> str:
    """Under which a run is kept."""
    return method + ("" if beta is None else f", beta {beta:g}") + f", lr {rate:g}"


def rates_table(runs: Mapping[str, Curves]) -> str:
    """A row for each method at each rate, means over its seeds."""
    return table(
        [
            "method",
            "seeds",
            "mean win rate",
            "each seed",
            "at the end",
            "KL",
            "tokens",
            "perplexity",
        ],
        [
            [
                name,
                ", ".join(map(str, curves.seeds)),
                f"{curves.columns['win_rate'].mean():.3f}",
                ", ".join(f"{mean:.3f}" for mean in curves.columns["win_rate"].mean(axis=1)),
                *(
                    f"{np.mean(curves.columns[column][:, -1]):.{digits}f}"
                    for column, digits in _AT_THE_END
                ),
            ]
            for name, curves in sorted(runs.items())
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tier", choices=("tiny_lm", "smollm2"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=(), metavar="NAME")
    parser.add_argument("--rates", nargs="+", type=float, default=())
    parser.add_argument("--betas", nargs="+", type=float, default=(None,))
    parser.add_argument("--seeds", type=int, default=2, help=f"from {FIRST_SEED} on (2)")
    parser.add_argument("--queries", type=int, default=2000, help="(2000)")
    parser.add_argument("--draw", action="store_true", help="the table only")
    parser.add_argument("--out", type=Path, help="folder (the tier's)")
    arguments = parser.parse_args()
    if not arguments.draw and not (arguments.methods and arguments.rates):
        parser.error("give --methods and --rates, or --draw")
    tier: Tier = importlib.import_module(f"studies.{arguments.tier}.config").TIER
    file = (arguments.out or tier.out) / "runs" / f"choosing_{arguments.queries}.csv"
    failed: list[str] = []
    if not arguments.draw:
        keys = {
            name_of(method, rate, beta): method_keys(method, arguments.queries)
            | {"policy_lr": rate}
            | ({} if beta is None else {"beta": beta})
            for method, beta, rate in itertools.product(
                arguments.methods, arguments.betas, arguments.rates
            )
        }
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        try:
            failed = run_missing(tier, keys, seeds, arguments.queries, file)
        except ConfigError as error:
            parser.error(str(error))
    print(rates_table(read_runs(file)))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
