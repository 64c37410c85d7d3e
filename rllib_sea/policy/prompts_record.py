"""A run's prompts as it knew them when it began, beside its results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rllib_sea.checkpointing.manifest import FOLDERS
from rllib_sea.policy.prompt_identity import Fingerprint
from text_duel.errors import ConfigError

PROMPTS_FILE = "prompts.json"


def record_prompts(folder: Path, prompts: Fingerprint) -> None:
    """Writes down what prompts a run has, once.

    Args:
        folder: The run's folder.
        prompts: Theirs.
    """
    file = folder / PROMPTS_FILE
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(prompts)))
        part.replace(file)


def check_unchanged(folder: Path, prompts: Fingerprint) -> None:
    """Makes sure that a run which is resumed has the prompts that it began with.

    What it has asked and measured, and the order of its prompts, are those of the prompts that were
    there: with others it would be neither the old run nor a new one.

    Args:
        folder: The run's folder.
        prompts: Those that it has now.

    Raises:
        ConfigError: They are others.
    """
    file = folder / PROMPTS_FILE
    if not file.exists():
        return
    difference = Fingerprint(**json.loads(file.read_text())).difference(prompts)
    if difference is None:
        return
    checkpoints = sorted(folder.glob(FOLDERS))
    way_on = f" by --restore {checkpoints[-1]}" if checkpoints else ""
    raise ConfigError(
        f"prompts: they have changed since the run began (by {file}): {difference}; put the old "
        f"ones back and --resume goes on, or start a new run with the new ones{way_on}"
    )
