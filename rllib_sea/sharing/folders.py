"""What is pushed to the hub, as a folder: a policy, or a set of preferences."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_sea.checkpointing.manifest import FOLDERS, check_whole, damage, progress_of
from rllib_sea.policy.models import MODEL_FILES
from rllib_sea.policy_update.learner import STATE_FILE
from rllib_sea.preference_log.export import export_preferences
from rllib_sea.preference_log.reader import LOG_FILE, PreferenceReader
from rllib_sea.preference_log.statistics import log_statistics
from rllib_sea.report.runs import Run, find_runs, is_run, read_runs
from rllib_sea.sharing.cards import CARD_FILE, policy_card, preferences_card
from text_duel.errors import ConfigError

# Where `datasets` finds the rows, by the card.
DATA_FILE = "data/train.parquet"


@dataclass(frozen=True)
class Checkpoint:
    """A policy as a run has left it.

    Attributes:
        run: The run, as far as it had come then.
        folder: The checkpoint, which is whole.
    """

    run: Run
    folder: Path

    @property
    def policy(self) -> Path:
        """The policy's folder."""
        return self.folder / "policy"


def find_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint that a path stands for.

    Args:
        path: A checkpoint in its run's folder; or a run's folder, or an experiment's of one run,
            whose furthest whole checkpoint is taken.

    Raises:
        ConfigError: There is none.
        DamagedCheckpointError: It is not whole.
    """
    if path.is_dir() and is_run(path.absolute().parent) and not is_run(path):
        folder = path.absolute()
        check_whole(folder)
    else:
        run = _one_run(path)
        whole = [one for one in run.glob(FOLDERS) if damage(one) is None]
        if not whole:
            raise ConfigError(
                f"{run} has no whole checkpoint ({FOLDERS}): a run writes one at its end, "
                "unless its checkpoint_config says otherwise"
            )
        folder = max(whole, key=lambda one: progress_of(one).training_iteration)
    (found,) = read_runs([folder.parent])
    done = progress_of(folder).training_iteration
    rounds = [row for row in found.rounds if row.get("training_iteration", 0) <= done]
    checkpoint = Checkpoint(dataclasses.replace(found, rounds=rounds), folder)
    if not (checkpoint.policy / "config.json").is_file():
        raise ConfigError(f"{folder} has no policy: it lacks policy/config.json")
    return checkpoint


def write_policy(
    checkpoint: Checkpoint, repo: str, output: Path, copy: Callable[[Path, Path], Any]
) -> None:
    """Writes a policy's folder with its card: what ``from_pretrained`` reads, and no more.

    Args:
        checkpoint: Whose policy it is.
        repo: The repository's name, for the card.
        output: An empty folder.
        copy: Puts a file of the checkpoint (first) there (second).
    """
    for file in sorted(checkpoint.policy.iterdir()):
        wanted = any(fnmatch.fnmatch(file.name, pattern) for pattern in MODEL_FILES)
        if file.is_file() and wanted and file.name != STATE_FILE:
            copy(file, output / file.name)
    with PreferenceReader(checkpoint.folder / LOG_FILE) as log:
        labels = log_statistics(log)
    config = json.loads((checkpoint.policy / "config.json").read_text(encoding="utf-8"))
    card = policy_card(repo, checkpoint.run, labels, checkpoint.folder.name, config)
    (output / CARD_FILE).write_text(str(card), encoding="utf-8")


def write_preferences(path: Path, repo: str, output: Path, *, all_columns: bool) -> int:
    """Writes a folder of preferences that ``datasets.load_dataset`` reads, with its card.

    Args:
        path: A preference log, or the folder of a run.
        repo: The repository's name, for the card.
        output: An empty folder.
        all_columns: See :func:`rllib_sea.preference_log.export.export_preferences`.

    Returns:
        How many preferences it has.

    Raises:
        ConfigError: There is no run.
        PreferenceLogError: There is no log that can be read, or no preference in it.
    """
    log_file = path if path.is_file() else _one_run(path) / LOG_FILE
    run = read_runs([log_file.parent])[0] if is_run(log_file.parent) else None
    rows = output / DATA_FILE
    rows.parent.mkdir()
    with PreferenceReader(log_file) as log:
        number = export_preferences(log, "parquet", rows, all_columns=all_columns)
        card = preferences_card(
            repo, log.runs(), log_statistics(log), run, number, DATA_FILE, all_columns=all_columns
        )
    (output / CARD_FILE).write_text(str(card), encoding="utf-8")
    return number


def _one_run(path: Path) -> Path:
    runs = find_runs([path])
    if len(runs) > 1:
        raise ConfigError(
            f"{path} has {len(runs)} runs: name one of {', '.join(run.name for run in runs)}"
        )
    return runs[0]
