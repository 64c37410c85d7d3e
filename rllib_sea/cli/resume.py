"""Going on with an earlier run: what may be resumed, and from where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial
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
