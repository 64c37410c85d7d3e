"""The files of results that Tune writes, with every round once and every metric in them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from ray.tune.result import EXPR_PROGRESS_FILE, EXPR_RESULT_FILE, TRAINING_ITERATION
from ray.tune.utils import flatten_dict


class ResultsOnce(JsonLoggerCallback):
    """Writes ``result.json``, as Tune does, but every round once.

    A trial that goes on from a checkpoint repeats the rounds after it: their earlier rows are taken
    off.
    """

    def __init__(self) -> None:
        super().__init__()
        self._silent: set[str] = set()

    def log_trial_start(self, trial: Trial) -> None:
        super().log_trial_start(trial)
        self._silent.add(trial.trial_id)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id in self._silent:
            self._silent.remove(trial.trial_id)
            cut_results(Path(trial.local_path, EXPR_RESULT_FILE), result[TRAINING_ITERATION])
        super().log_trial_result(iteration, trial, result)


def cut_results(file: Path, begin: int) -> None:
    """Cuts a ``result.json`` off before the row of an iteration that comes again.

    Args:
        file: One row per line, in order; the last one may be cut short.
        begin: The iteration.
    """
    kept = 0
    for line in file.read_bytes().splitlines(keepends=True):
        try:
            if json.loads(line)[TRAINING_ITERATION] >= begin:
                break
        except ValueError:  # the process died as it wrote it
            break
        kept += len(line)
    os.truncate(file, kept)


class WholeTable(CSVLoggerCallback):
    """Writes ``progress.csv``, as Tune does, but every round once and all columns.

    Tune's has those of the first result, which a metric that is not measured in every round, such
    as an evaluation's, need not be in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._columns: dict[str, list[str]] = {}

    def log_trial_start(self, trial: Trial) -> None:
        trial.init_local_path()
        self._restore_from_remote(EXPR_PROGRESS_FILE, trial)
        # The first result says from where on the rows that are there come again.
        self._columns.pop(trial.trial_id, None)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        row = flatten_dict({k: v for k, v in result.items() if k != "config"}, delimiter="/")
        file, columns = Path(trial.local_path, EXPR_PROGRESS_FILE), self._columns
        columns[trial.trial_id] = add_row(file, row, columns.get(trial.trial_id))

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Nothing is open between two results."""


def add_row(file: Path, row: Mapping[str, Any], columns: list[str] | None) -> list[str]:
    """Adds a row to a CSV file; a column that is new makes the whole file anew.

    Args:
        file: Its rows stand in the order of their iterations; those from this one's on are cut off
            if the columns are not known.
        row: A result, flat.
        columns: Those of the file; None: they are read from it, if it is there.

    Returns:
        The columns that it has now.
    """
    if columns is not None and row.keys() <= set(columns):
        with file.open("a", newline="") as table:
            csv.DictWriter(table, columns).writerow(row)
        return columns
    before: list[dict[str, Any]] = []
    if file.is_file():
        with file.open(newline="") as table:
            reader = csv.DictReader(table)
            before = [r for r in reader if _iteration(r) < row[TRAINING_ITERATION]]
            columns = list(reader.fieldnames or [])
    columns = list(dict.fromkeys([*(columns or []), *row]))
    part = file.with_name(f"{file.name}.part")
    with part.open("w", newline="") as table:
        writer = csv.DictWriter(table, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*before, row])
    os.replace(part, file)
    return columns


def _iteration(row: Mapping[str, Any]) -> float:
    """A row's iteration; of one that was cut short, as its process died, none that is kept."""
    try:
        return int(row[TRAINING_ITERATION])
    except (KeyError, TypeError, ValueError):
        return float("inf")
