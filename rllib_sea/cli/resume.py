"""Before a run is resumed: which checkpoint it goes on from, and its results up to there."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial
from ray.tune.registry import get_trainable_cls
from ray.tune.result import EXPR_PROGRESS_FILE, EXPR_RESULT_FILE, TRAINING_ITERATION
from rich.console import Console

from rllib_sea import SEA
from rllib_sea.checkpointing.manifest import damage, newest_whole_beside, progress_of
from rllib_sea.cli.experiments import Experiment


def rewind(experiment: Experiment, console: Console) -> None:
    """Takes the results of unfinished trials back to the checkpoint that each goes on from.

    A trial repeats the rounds after its checkpoint; without this its results would have them
    twice. Says which checkpoint is damaged, and which one is taken instead. Only for results on a
    local disk: elsewhere they stay as they are.

    Args:
        experiment: It has run before.
        console: Where damage is told.
    """
    for trial in ExperimentAnalysis(f"{experiment.storage_path}/{experiment.name}").trials:
        local = trial.storage.storage_filesystem.type_name == "local"
        if trial.status != Trial.TERMINATED and trial.checkpoint is not None and local:
            last = _last_iteration(trial, _is_sea(experiment), console)
            cut_results(Path(trial.storage.trial_fs_path), last)


def _is_sea(experiment: Experiment) -> bool:
    run = experiment.run
    return issubclass(run if isinstance(run, type) else get_trainable_cls(run), SEA)


def _last_iteration(trial: Trial, checked: bool, console: Console) -> int:
    """The count of results at the checkpoint that :meth:`SEA.restore` will take."""
    folder = Path(trial.checkpoint.path)
    wrong = damage(folder) if checked else None
    if wrong is None:
        return trial.latest_checkpoint_result.metrics[TRAINING_ITERATION]
    other = newest_whole_beside(folder)
    iteration = 0 if other is None else progress_of(other).training_iteration
    way_on = (
        "no other one is whole: the run begins anew, with the answers that are in its log"
        if other is None
        else f"the run goes on from {other.name}, after round {iteration}"
    )
    console.print(
        f"Checkpoint {folder} is damaged: {wrong}; {way_on}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    return iteration


def cut_results(folder: Path, last: int) -> None:
    """Takes later rows off a trial's results.

    ``result.json`` goes on. ``progress.csv`` is set aside as ``progress_to_<last>.csv``: Tune would
    go on with it under its old header, with the columns that the next result happens to have.

    Args:
        folder: The trial's.
        last: The last training iteration to keep.
    """
    results, progress = folder / EXPR_RESULT_FILE, folder / EXPR_PROGRESS_FILE
    if results.is_file():
        _write(results, _json_rows(results, last))
    if progress.is_file():
        header, *rows = _csv_rows(progress, last)
        if rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([header, *rows])
            _write(folder / f"progress_to_{last}.csv", text.getvalue())
        progress.unlink()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, newline="")
    os.replace(part, path)


def _json_rows(path: Path, last: int) -> str:
    def kept(line: str) -> bool:
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError:  # the last line, where the process died as it wrote it
            return False
        return row[TRAINING_ITERATION] <= last

    return "".join(f"{line}\n" for line in path.read_text().splitlines() if kept(line))


def _csv_rows(path: Path, last: int) -> list[list[str]]:
    """The header, and the rows to keep."""
    with path.open(newline="") as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    place = header.index(TRAINING_ITERATION) if rows else 0
    # The last row may have been cut off as the process died.
    whole = [row for row in rows if len(row) == len(header) and row[place].isdigit()]
    return [header, *(row for row in whole if int(row[place]) <= last)]
