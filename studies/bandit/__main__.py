"""Runs the bandit tier and draws it.

    python -m studies.bandit                       # all, one core, one or two hours
    python -m studies.bandit --suites main noise   # some suites
    python -m studies.bandit --methods passive bai_ts+mix --seeds 5
    python -m studies.bandit --draw                # pictures and tables only
    python -m studies.bandit --quick               # a minute; says nothing

Runs are kept in `runs/<suite>.csv`; a run that is there is not run again. Delete the file to
start anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from studies.bandit.methods import SUITES
from studies.bandit.results import BASELINE, append_run, can_draw, read_runs
from studies.bandit.settings import Settings
from studies.bandit.simulation import Simulation
from studies.bandit.tables import write_tables

OUT = Path("docs/results/bandit")
QUICK_SUITES, QUICK_METHODS, QUICK_BUDGET, QUICK_SEEDS = (
    ["main"],
    ["passive", "bai_ts", "bai_ts+mix", "drts+mix", "ee_ts"],
    1600,
    3,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", nargs="+", choices=list(SUITES), default=list(SUITES))
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="of the suites; all")
    parser.add_argument("--seeds", type=int, help="runs of each method; each suite has its own")
    parser.add_argument("--first-seed", type=int, default=0, help="the others follow it (0)")
    parser.add_argument("--quick", action="store_true", help="a few methods, short, 3 seeds")
    parser.add_argument("--draw", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, help=f"folder ({OUT}; with --quick a temporary one)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    suites, methods, seeds, out = (
        arguments.suites,
        arguments.methods,
        arguments.seeds,
        arguments.out or OUT,
    )
    first = arguments.first_seed
    changes: dict[str, Any] = {}
    if arguments.quick:
        suites, methods, seeds = QUICK_SUITES, methods or QUICK_METHODS, seeds or QUICK_SEEDS
        out = arguments.out or Path(tempfile.gettempdir()) / "bandit-quick"
        changes = {"query_budget": QUICK_BUDGET}
    known = {name for suite in suites for name in SUITES[suite].methods}
    unknown = sorted(set(methods or ()) - known)
    if unknown:
        parser.error(f"--methods: {', '.join(unknown)}: there are {', '.join(sorted(known))}")
    if not arguments.draw:
        todo = [
            (suite, seed, name, replace(settings, **changes))
            for suite in suites
            for seed in range(first, first + (seeds or SUITES[suite].seeds))
            for name, settings in SUITES[suite].methods.items()
            if methods is None or name in methods
        ]
        _run(todo, out)
    files = {suite: out / "runs" / f"{suite}.csv" for suite in SUITES}
    runs = {suite: read_runs(file) for suite, file in files.items() if file.exists()}
    if BASELINE not in runs.get("main", {}):
        parser.error(f"tables and pictures need {BASELINE!r} of the suite main")
    write_tables(out, runs)
    if can_draw():
        from studies.bandit.pictures import draw

        draw(out, runs)
    print(f"results: {out}")


def _run(todo: list[tuple[str, int, str, Settings]], out: Path) -> None:
    """Runs what is not there yet, seed after seed, so that what is there can be compared."""
    kept = {
        (suite, int(seed), name)
        for suite in {item[0] for item in todo}
        for name, curves in read_runs(out / "runs" / f"{suite}.csv").items()
        for seed in curves.seeds
    }
    todo = [item for item in todo if item[:3] not in kept]
    start = time.monotonic()
    for i, (suite, seed, name, settings) in enumerate(todo):
        rows = Simulation(settings, seed).run()
        append_run(out / "runs" / f"{suite}.csv", name, seed, rows)
        passed = time.monotonic() - start
        left = passed / (i + 1) * (len(todo) - i - 1) / 60
        print(
            f"{i + 1}/{len(todo)} {suite}: {name}, seed {seed}: "
            f"win rate {rows[-1]['win_rate']:.3f}, about {left:.0f} min left",
            flush=True,
        )


if __name__ == "__main__":
    main()
