"""Going on with an earlier run: what may be resumed, from where, and its results once each."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.result import EXPR_PROGRESS_FILE, EXPR_RESULT_FILE, TRAINING_ITERATION
from ray.tune.schedulers import TrialScheduler

from rllib_sea import SEAConfig
from rllib_sea.checkpointing.manifest import (
    FOLDERS,
    damage,
    newest_whole_beside,
    progress_of,
)
from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.experiments import Experiment
from rllib_sea.policy.prompt_identity import Fingerprint
from rllib_sea.policy.prompts_record import check_unchanged
from rllib_sea.preference_log.lock import writer_of
from rllib_sea.preference_log.log import LOG_FILE
from text_duel.errors import ConfigError


def has_run(experiment: Experiment) -> bool:
    """Whether the experiment's folder holds the state of an earlier run."""
    folder = f"{experiment.spec['storage_path']}/{experiment.name}"
    filesystem, path = pyarrow.fs.FileSystem.from_uri(folder)
    selector = pyarrow.fs.FileSelector(path, allow_not_found=True)
    names = [Path(info.path).name for info in filesystem.get_file_info(selector)]
    return any(name.startswith("experiment_state") for name in names)


def check_resumable(experiment: Experiment, console: TextConsole) -> None:
    """Makes sure that Tune can go on with a run; says which checkpoints are damaged.

    Only for results on a local disk.

    Raises:
        ConfigError: It still runs, its state is cut short, or its prompts are others by now; the
            line says how it goes on.
    """
    folder = experiment.folder
    if folder is None:
        return
    for log in folder.glob(f"*/{LOG_FILE}"):
        writer = writer_of(log)
        if writer is not None:
            # Two copies of Tune would write over one another's state and results.
            raise ConfigError(f"--resume: the run goes on: process {writer} writes to {log}")
    try:
        trials = ExperimentAnalysis(str(folder)).trials
    except json.JSONDecodeError as error:
        state = max(folder.glob("experiment_state-*.json"))
        checkpoints = sorted(folder.glob(f"*/{FOLDERS}"), key=lambda path: path.stat().st_mtime)
        way_on = f"; --restore {checkpoints[-1]} starts from the last one" if checkpoints else ""
        raise ConfigError(
            f"--resume: {state} was cut short, as on a full disk: nobody knows which checkpoint "
            f"each trial goes on from{way_on}"
        ) from error
    for trial in trials:
        if not experiment.is_sea or trial.status == Trial.TERMINATED:
            continue
        prompts = SEAConfig.from_user_dict(trial.config).read_prompts()
        check_unchanged(Path(trial.path), Fingerprint.of(prompts.training, prompts.held_out))
        if trial.checkpoint is not None:
            _tell_damage(Path(trial.checkpoint.path), console)


def _tell_damage(checkpoint: Path, console: TextConsole) -> None:
    """Says what :meth:`rllib_sea.sea.SEA.restore` will do about a damaged checkpoint."""
    wrong = damage(checkpoint)
    if wrong is None:
        return
    other = newest_whole_beside(checkpoint)
    way_on = "no other one is whole: the run begins anew, with the answers that are in its log"
    if other is not None:
        rounds = progress_of(other).training_iteration
        way_on = f"the run goes on from {other.name}, after round {rounds}"
    console.say(f"Checkpoint {checkpoint} is damaged: {wrong}; {way_on}")


def forget_decisions(scheduler: TrialScheduler) -> None:
    """Lets resumed trials run on that Tune had decided to stop.

    Tune keeps what it decided about a trial until its checkpoint is written, also with its state:
    a trial that failed, or was killed, meanwhile would end after its first checkpoint as if it
    were finished. A scheduler that pauses a trial takes such a decision back, and a trial that
    does not run yet is not paused by it.
    """
    add = scheduler.on_trial_add

    def on_trial_add(tune_controller: Any, trial: Trial) -> None:
        tune_controller.pause_trial(trial)
        add(tune_controller, trial)

    scheduler.on_trial_add = on_trial_add


class ResultsOnce(JsonLoggerCallback):
    """Writes ``result.json``, as Tune does, but every round once.

    A trial that goes on from a checkpoint repeats the rounds after it: their earlier rows are taken
    off. ``progress.csv`` is set aside as ``progress_0.csv`` and so on: Tune would go on with it
    under its old header, with the columns that the next result happens to have.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()
        self._silent: set[str] = set()

    def log_trial_start(self, trial: Trial) -> None:
        super().log_trial_start(trial)
        self._silent.add(trial.trial_id)
        # Some schedulers start a trial several times.
        if trial.trial_id not in self._known:
            self._known.add(trial.trial_id)
            set_aside(Path(trial.path, EXPR_PROGRESS_FILE))
            # On a cluster that goes on Tune has a copy of its own.
            Path(trial.local_path, EXPR_PROGRESS_FILE).unlink(missing_ok=True)

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


def set_aside(file: Path) -> None:
    """Renames ``progress.csv`` to the first of ``progress_0.csv``, ... that is free."""
    if file.is_file():
        places = (file.with_name(f"{file.stem}_{n}{file.suffix}") for n in itertools.count())
        file.rename(next(place for place in places if not place.exists()))
