"""Runs the tiny-language-model tier and draws it.

    python -m benchmarks.tiny_lm                                  # all methods, 3 seeds
    python -m benchmarks.tiny_lm --methods passive bai_ts+mix
    python -m benchmarks.tiny_lm --draw                           # tables and pictures only
    python -m benchmarks.tiny_lm --seeds 1 --queries 1000 --out /tmp/short

Curves are kept in `runs/<queries>.csv` of the folder; a run that is there is not run again, so
that a sweep which was stopped goes on. Delete the file to start anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.sample_efficiency.results import BASELINE, Curves, read_runs
from benchmarks.tiny_lm.curves import EVERY
from benchmarks.tiny_lm.methods import METHODS, QUERIES, run_config
from benchmarks.tiny_lm.report import write_report
from text_duel.errors import ConfigError

OUT = Path("docs/results/tiny_lm")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tiny_lm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (3)")
    parser.add_argument("--queries", type=int, default=QUERIES, help=f"of a run ({QUERIES})")
    parser.add_argument("--draw", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder ({OUT})")
    arguments = parser.parse_args()
    if arguments.queries < EVERY:
        parser.error(f"--queries: {arguments.queries} is less than {EVERY}")
    file = arguments.out / "runs" / f"{arguments.queries}.csv"
    failed: list[str] = []
    if not arguments.draw:
        try:
            failed = _run(arguments.methods, arguments.seeds, arguments.queries, file)
        except ConfigError as error:
            parser.error(str(error))
    runs = read_runs(file)
    if BASELINE in runs:
        write_report(arguments.out, in_order(runs))
        print(f"results: {arguments.out}")
    else:
        print(f"no tables and pictures: they need {BASELINE!r} in {file}")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if failed or BASELINE not in runs:
        sys.exit(1)


def in_order(runs: dict[str, Curves]) -> dict[str, Curves]:
    """The same in the order of the methods, not of who was done first."""
    return {name: runs[name] for name in METHODS if name in runs}


def missing(methods: list[str], seeds: int, file: Path) -> list[tuple[str, int]]:
    """Methods and seeds that a file lacks, seed after seed, so that what is there compares."""
    kept = read_runs(file)
    return [
        (method, seed)
        for seed in range(seeds)
        for method in METHODS
        if method in methods and (method not in kept or seed not in kept[method].seeds)
    ]


def _run(methods: list[str], seeds: int, queries: int, file: Path) -> list[str]:
    todo = missing(methods, seeds, file)
    if not todo:
        return []
    # Ray and the decoder only where something is run.
    from benchmarks.tiny_lm.decoder import fitted_decoder
    from benchmarks.tiny_lm.sweep import Run, run_all
    from rllib_sea import SEAConfig

    decoder = fitted_decoder()
    runs = [Run(name, seed, run_config(decoder, name, seed, queries)) for name, seed in todo]
    for run in runs:
        SEAConfig.from_user_dict(dict(run.config))
    return run_all(runs, file)


if __name__ == "__main__":
    main()
