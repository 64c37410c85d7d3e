"""Evaluates a checkpoint on its held-out prompts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ray.rllib.algorithms.algorithm import Algorithm
from rich.console import Console
from rich.table import Table

from rllib_sea import SEA
from rllib_sea.checkpointing.manifest import DamagedCheckpointError, check_whole
from rllib_sea.cli.options import RayOptions
from rllib_sea.cli.ray_session import check_ray_options, ray_session
from rllib_sea.evaluation import summarise
from text_duel.errors import ConfigError


def evaluate_checkpoint(checkpoint: Path, options: RayOptions) -> None:
    """Restores a checkpoint, evaluates it and prints a table.

    Args:
        checkpoint: A folder that a run's summary names.
        options: Where it runs.

    Raises:
        ConfigError: The folder is no checkpoint.
    """
    check_checkpoint(checkpoint)
    check_ray_options(options)
    console = Console()
    with ray_session(options, console):
        console.print("Restoring the checkpoint: engines start")
        algorithm = SEA.from_checkpoint(str(checkpoint.resolve()))
        try:
            measured = summarise(algorithm.evaluate_held_out())
        finally:
            algorithm.stop()
            # RLlib made it for this one command.
            shutil.rmtree(algorithm.logdir, ignore_errors=True)
    console.print(evaluation_table(measured))


def check_checkpoint(folder: Path) -> None:
    """Raises ConfigError unless a folder is a whole checkpoint of an Algorithm."""
    if (folder / Algorithm.METADATA_FILE_NAME).is_file():
        try:
            check_whole(folder.resolve())
        except DamagedCheckpointError as error:
            raise ConfigError(str(error)) from error
        return
    if not folder.is_dir():
        raise ConfigError(f"there is no checkpoint folder {folder.absolute()}")
    inside = sorted(path for path in folder.rglob("checkpoint_*") if path.is_dir())
    hint = f" (did you mean {inside[-1]}?)" if inside else ""
    raise ConfigError(f"{folder} is no checkpoint: it has no {Algorithm.METADATA_FILE_NAME}{hint}")


def evaluation_table(measured: Mapping[str, float]) -> Table:
    """The metrics of an evaluation as a table.

    Args:
        measured: What :func:`rllib_sea.evaluation.summarise` returns.
    """
    table = Table(title=f"{measured['num_prompts']:.0f} held-out prompts, greedy responses")
    table.add_column("metric")
    for name in ("value", "95% low", "95% high"):
        table.add_column(name, justify="right")
    for name, value in measured.items():
        if name == "num_prompts" or name.endswith(("_low", "_high")):
            continue
        ends = [measured.get(f"{name}_{end}") for end in ("low", "high")]
        table.add_row(name, f"{value:.3f}", *("" if end is None else f"{end:.3f}" for end in ends))
    return table
