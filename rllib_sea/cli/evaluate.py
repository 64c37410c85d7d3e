"""Evaluates a checkpoint on its held-out prompts."""

from __future__ import annotations

import shutil
from pathlib import Path

from ray.rllib.algorithms.algorithm import Algorithm

from rllib_sea import SEA
from rllib_sea.checkpointing.manifest import (
    FOLDERS,
    MANIFEST,
    DamagedCheckpointError,
    check_whole,
)
from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.options import RayOptions
from rllib_sea.cli.progress import evaluation_rows
from rllib_sea.cli.ray_session import check_ray_options, ray_session
from rllib_sea.evaluation import summarise
from rllib_sea.labelling.asking import OracleAwayError
from text_duel.errors import ConfigError


def evaluate_checkpoint(checkpoint: Path, options: RayOptions) -> None:
    """Restores a checkpoint, evaluates it and prints what was measured."""
    check_checkpoint(checkpoint.absolute())
    check_ray_options(options)
    console = TextConsole()
    with ray_session(options, console):
        console.say("Restoring the checkpoint: engines start")
        algorithm = SEA.from_checkpoint(str(checkpoint.resolve()))
        try:
            measured = summarise(algorithm.evaluate_held_out())
        except OracleAwayError as error:
            raise ConfigError(str(error)) from error
        finally:
            algorithm.stop()
            # RLlib made it for this one command.
            shutil.rmtree(algorithm.logdir, ignore_errors=True)
    for name, text in evaluation_rows(measured):
        console.say(f"  {name:<26} {text}")


def check_checkpoint(folder: Path, *, of_sea: bool = True) -> None:
    """Raises ConfigError unless a folder is a checkpoint, and a whole one if it is SEA's."""
    if not folder.is_dir():
        raise ConfigError(f"there is no checkpoint folder {folder}")
    if not of_sea:
        return
    if not any((folder / name).is_file() for name in (Algorithm.METADATA_FILE_NAME, MANIFEST)):
        inside = sorted(path for path in folder.rglob(FOLDERS) if path.is_dir())
        hint = f" (did you mean {inside[-1]}?)" if inside else ""
        raise ConfigError(
            f"{folder} is no checkpoint: it has no {Algorithm.METADATA_FILE_NAME}{hint}"
        )
    try:
        check_whole(folder)
    except DamagedCheckpointError as error:
        raise ConfigError(str(error)) from error
