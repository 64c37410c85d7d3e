"""Room on the results' disk for what Tune writes last."""

from __future__ import annotations

import os
from typing import Any

from ray.tune import Callback

from rllib_sea.cli.experiments import Experiment
from text_duel.errors import ConfigError

ROOM_FILE = ".room"
# Tune's state is about 0.1 MB per trial, results are 16 kB per round.
ROOM_BYTES = 32 * 2**20


class Room(Callback):
    """Keeps room on the results' disk, if that is a local one.

    Tune copies its state and the results to the results folder every few seconds, each file cut to
    nothing first: on a full disk they stay so, and the run could not be resumed. The room is given
    up when a trial fails, and Tune's last copy is whole.

    Args:
        experiment: Its folder gets a file while it runs.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._folder = experiment.folder

    def setup(self, **info: Any) -> None:
        """Takes the room.

        Raises:
            ConfigError: There is none.
        """
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / ROOM_FILE).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
        except OSError as error:
            self._give_up()
            raise ConfigError(
                f"storage_path: {self._folder} has no room for {ROOM_BYTES >> 20} MiB: "
                f"{error.strerror}"
            ) from error

    def on_trial_error(self, **info: Any) -> None:
        self._give_up()

    def on_experiment_end(self, **info: Any) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self._folder is not None:
            (self._folder / ROOM_FILE).unlink(missing_ok=True)
