"""The command of a language-model tier: runs what is not there yet, and draws."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.bandit.results import BASELINE, Curves, read_runs
from studies.language_models.curves import POINTS
from studies.language_models.methods import METHODS, method_keys
from studies.language_models.report import write_report
from studies.language_models.tier import Tier
from text_duel.errors import ConfigError

EPILOG = """\
Curves are kept in runs/<queries>.csv of the folder; a run that is there is not run again, so
that a sweep which was stopped goes on. Delete the file to start anew.
"""


def main(tier: Tier) -> None:
    """Reads the command line and does as it says.

    Args:
        tier: What is run.
    """
    parser = argparse.ArgumentParser(
        prog=tier.command,
        description=f"{tier.title}: queries that each method needs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="NAME",
        help=f"of {', '.join(METHODS)} ({', '.join(tier.methods)})",
    )
    if tier.rates:
        parser.add_argument(
            "--rates",
            choices=tier.rates,
            help="each method at a policy_lr of its own, in a folder of its own: "
            + "; ".join(f"{choice}: {dict(rates)}" for choice, rates in tier.rates.items()),
        )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (3)")
    parser.add_argument("--first-seed", type=int, default=0, help="the others follow it (0)")
    parser.add_argument("--queries", type=int, default=tier.queries, help=f"({tier.queries})")
    parser.add_argument("--draw", action="store_true", help="tables and pictures only")
    parser.add_argument("--out", type=Path, help=f"folder ({tier.out})")
    arguments = parser.parse_args()
    choice = arguments.rates if tier.rates else None
    rates = tier.rates[choice] if choice else {}
    known: Sequence[str] = list(rates) if choice else METHODS
    chosen = arguments.methods or (known if choice else tier.methods)
    unknown = [method for method in chosen if method not in known]
    if unknown:
        parser.error(f"--rates {choice}: {', '.join(map(repr, unknown))}: not among {dict(rates)}")
    out = arguments.out or (tier.out / f"rates_{choice}" if choice else tier.out)
    if arguments.queries < POINTS:
        parser.error(f"--queries: {arguments.queries} is less than a curve's {POINTS} points")
    file = out / "runs" / f"{arguments.queries}.csv"
    failed: list[str] = []
    if not arguments.draw:
        try:
            seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
            keys = {
                method: method_keys(method, arguments.queries)
                | ({"policy_lr": rates[method]} if method in rates else {})
                for method in METHODS
                if method in chosen
            }
            failed = run_missing(tier, keys, seeds, arguments.queries, file)
        except ConfigError as error:
            parser.error(str(error))
    runs = read_runs(file)
    if BASELINE in runs:
        write_report(out, tier, in_order(runs), choice)
        print(f"results: {out}")
    else:
        print(f"no tables and pictures: they need {BASELINE!r} in {file}")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if failed or BASELINE not in runs:
        sys.exit(1)


def in_order(runs: dict[str, Curves]) -> dict[str, Curves]:
    """The same in the order of the methods, not of who was done first."""
    return {name: runs[name] for name in METHODS if name in runs}


def missing(names: Iterable[str], seeds: range, file: Path) -> list[tuple[str, int]]:
    """Names and seeds that a file lacks, seed after seed, so that what is there compares."""
    kept = read_runs(file)
    return [
        (name, seed)
        for seed in seeds
        for name in names
        if name not in kept or seed not in kept[name].seeds
    ]


def run_missing(
    tier: Tier,
    keys: Mapping[str, Mapping[str, Any]],
    seeds: range,
    queries: int,
    file: Path,
) -> list[str]:
    """Runs what a file lacks.

    Args:
        tier: Whose runs they are.
        keys: By the name under which a run is kept, the keys that it has beyond the tier's.
        seeds: Of each.
        queries: The budget of a run.
        file: Gets the curves.

    Returns:
        The names of those that failed, each with where its error lies.
    """
    todo = missing(keys, seeds, file)
    if not todo:
        return []
    # Ray only if something is run.
    from rllib_sea import SEAConfig
    from studies.language_models.sweep import Run, run_all

    config_of = tier.prepare()
    runs = [
        Run(name, seed, {**config_of(seed), "query_budget": queries, **keys[name]})
        for name, seed in todo
    ]
    for run in runs:
        SEAConfig.from_user_dict(dict(run.config))
    return run_all(tier, runs, file)
