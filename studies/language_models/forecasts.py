"""What the ERM foretells of the next labels, against what they bring, on a language-model tier.

    python -m studies.language_models.forecasts ~/ray_results/tiny_lm

Read from the results that the tier's sweep left in Tune's folder, of every run that used its
budget: each evaluation has a forecast beside it. The truth is the soft win rate of the same
evaluation, by the hidden reward, and what a tenth more labels had brought by a later one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from studies.bandit.forecasts import (
    COLUMNS,
    OUT,
    Rows,
    calibration_table,
    draw,
    stopping_table,
    with_gains,
    write,
)
from studies.bandit.results import can_draw
from studies.language_models.methods import METHODS

TRUTH = "win_rate_vs_initial_soft"


def rows_of(results: Iterable[dict[str, Any]]) -> Rows:
    """A run's evaluations, each with its forecast; none if the run has not used its budget.

    Args:
        results: A run's results, in order.
    """
    rows: Rows = []
    last: dict[str, Any] = {"num_oracle_queries": 0, "query_budget": 1}
    for last in results:
        evaluated = last.get("evaluation", {})
        if TRUTH not in evaluated:
            continue
        row = {"labels": float(last["num_oracle_queries"]), "win_rate": float(evaluated[TRUTH])}
        said = {name: last["reward_model"].get(name, np.nan) for name in COLUMNS[2:]}
        rows.append(said | row)
    return with_gains(rows) if last["num_oracle_queries"] >= last["query_budget"] else []


def read_results(folder: Path, methods: list[str]) -> dict[tuple[str, int], Rows]:
    """The rows of all runs in a folder of Tune's, by method and seed.

    Args:
        folder: Trials' folders are named ``<method>-<seed>-<trial>``.
        methods: What is read.
    """
    found: dict[tuple[str, int], Rows] = {}
    for file in sorted(folder.glob("*/result.json"), key=lambda file: file.stat().st_mtime):
        method, seed, _ = file.parent.name.rsplit("-", 2)
        # Seeds from 100 on are those that settings were chosen on.
        if method not in methods or int(seed) >= 100:
            continue
        with file.open() as lines:
            rows = rows_of(json.loads(line) for line in lines)
        if rows:
            found[method, int(seed)] = rows  # the newest, if a run was made again
    order = {method: place for place, method in enumerate(methods)}
    return dict(sorted(found.items(), key=lambda item: (item[0][1], order[item[0][0]])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of Tune's results")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME", default=METHODS)
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder ({OUT})")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    runs = read_results(folder, list(arguments.methods))
    if not runs:
        parser.error(f"{folder}: there is no finished run of these methods in it")
    write(arguments.out / f"{folder.name}.csv", runs)
    tables = f"{calibration_table(runs)}\n{stopping_table(runs)}"
    (arguments.out / f"{folder.name}.md").write_text(
        f"# Forecasts on {folder.name}: tables\n\n"
        f"Made by `python -m studies.language_models.forecasts`.\n\n{tables}"
    )
    print(tables)
    if can_draw():
        draw(runs, arguments.out, folder.name)


if __name__ == "__main__":
    main()
