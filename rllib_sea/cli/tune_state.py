"""Tune's own state of an experiment: room for it on a full disk, and what to leave behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_sea.cli.experiments import Experiment
from rllib_sea.preference_log.lock import writer_of
from rllib_sea.preference_log.log import LOG_FILE
from text_duel.errors import ConfigError

ROOM_FILE = ".room"
# Tune's state is about 0.1 MB a trial, results are 16 kB a round.
ROOM_BYTES = 32 * 2**20
_STATES = "experiment_state-*.json"


class Room(Callback):
    """Keeps room on the results' disk for what Tune writes last.

    Tune copies its state and the results to the results folder every few seconds, each file cut to
    nothing first: on a full disk they stay so, and the run could not be resumed. The room is given
    up when a trial fails, and Tune's last copy is whole.

    Args:
        experiment: Its folder gets a file while it runs, where it is on a local disk.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._folder = _local_folder(experiment)

    def setup(self, **info: Any) -> None:
        """Takes the room.

        Raises:
            ConfigError: There is none.
        """
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with (self._folder / ROOM_FILE).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
        except OSError as error:
            self._give_up()
            raise ConfigError(
                f"storage_path: {self._folder} has no room for {ROOM_BYTES >> 20} MiB: "
                f"{error.strerror}"
            ) from error

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Gives the room up."""
        self._give_up()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Gives the room up."""
        self._give_up()

    def _give_up(self) -> None:
        if self._folder is not None:
            (self._folder / ROOM_FILE).unlink(missing_ok=True)


def check_state(experiment: Experiment) -> None:
    """Makes an experiment's newest state one that Tune can go on from.

    Tune keeps what it had decided about a trial that failed while its checkpoint was written: a
    resumed run would end after its first round, as if it were finished. That is taken out.

    Args:
        experiment: It has run before.

    Raises:
        ConfigError: It still runs, or its state is cut short; the line says how it goes on.
    """
    folder = _local_folder(experiment)
    newest = max(folder.glob(_STATES), default=None) if folder is not None else None
    if folder is None or newest is None:
        return
    for log in folder.glob(f"*/{LOG_FILE}"):
        writer = writer_of(log)
        if writer is not None:
            # Two copies of Tune would write over one another's state and results.
            raise ConfigError(f"--resume: the run goes on: process {writer} writes to {log}")
    try:
        state = json.loads(newest.read_text())
    except ValueError as error:
        checkpoints = sorted(folder.glob("*/checkpoint_*"), key=lambda path: path.stat().st_mtime)
        way_on = f"; --restore {checkpoints[-1]} starts from the last one" if checkpoints else ""
        raise ConfigError(
            f"--resume: {newest} was cut short, as on a full disk: nobody knows which checkpoint "
            f"each trial goes on from{way_on}"
        ) from error
    decisions = state["runner_data"].get("_cached_trial_decisions")
    if decisions:
        state["runner_data"]["_cached_trial_decisions"] = {}
        part = newest.with_name(f"{newest.name}.part")
        part.write_text(json.dumps(state))
        os.replace(part, newest)


def _local_folder(experiment: Experiment) -> Path | None:
    folder = Path(experiment.storage_path, experiment.name)
    return folder if folder.is_absolute() else None
