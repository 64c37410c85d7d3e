"""An Algorithm whose checkpoints are whole or not there, and that goes on from a whole one."""

from __future__ import annotations

import logging
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.annotations import override

# Private names of Ray: `Trainable.save` returns the former, and there is no other way to say where
# a checkpoint already stands.
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.result import TIME_TOTAL_S, TRAINING_ITERATION

from rllib_sea.checkpointing import manifest

logger = logging.getLogger(__name__)

# Of a checkpoint that is being written, in the run's folder.
PART_FOLDER = ".checkpoint.part"


class CheckpointedAlgorithm(Algorithm):
    """Writes checkpoints in one piece, seals them, and refuses damaged ones."""

    @cached_property
    def folder(self) -> Path:
        """Where the run's own files go: its results folder, if that is on a local disk."""
        folder = self._storage.trial_fs_path if self._stores_locally else self.logdir
        path = Path(folder).resolve()
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def _stores_locally(self) -> bool:
        storage = self._storage
        return storage is not None and storage.storage_filesystem.type_name == "local"

    def add_to_checkpoint(self, folder: Path) -> None:
        """Writes what RLlib knows nothing of; called before a checkpoint is sealed."""

    @classmethod
    @override(Algorithm)
    def from_checkpoint(cls, path: str | Path | Checkpoint, *args: Any, **kwargs: Any) -> Self:
        """As in RLlib, but raises DamagedCheckpointError before anything is started."""
        manifest.check_whole(Path(path.path if isinstance(path, Checkpoint) else path))
        return super().from_checkpoint(path, *args, **kwargs)

    @override(Algorithm)
    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        folder = super().save_to_path(path, **kwargs)
        self.add_to_checkpoint(Path(folder))
        manifest.seal(Path(folder), manifest.Progress(self.iteration, self._time_total))
        return folder

    @override(Algorithm)
    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("component") is None:
            manifest.check_whole(Path(path))
        super().restore_from_path(path, *args, **kwargs)

    @override(Algorithm)
    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Writes a checkpoint where Tune keeps them, whole or not at all.

        Tune would have it in a temporary folder first, and copy it file by file: that takes 3 s
        longer for a model of 135M, and leaves a part of it if the process dies.
        """
        if checkpoint_dir is not None or not self._stores_locally:
            return super().save(checkpoint_dir)
        storage, metrics = self._storage, dict(self._last_result or {})
        storage._update_checkpoint_index(metrics)  # private: what `Trainable.save` does first
        place = Path(storage.checkpoint_fs_path)
        part = self.folder / PART_FOLDER
        for folder in (part, place):  # of a run that was killed
            shutil.rmtree(folder, ignore_errors=True)
        part.mkdir()
        try:
            self.save_checkpoint(str(part))
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)  # on a full disk the log needs the room
            raise
        part.rename(place)
        storage.persist_artifacts(force=storage.sync_config.sync_artifacts_on_checkpoint)
        return _TrainingResult(Checkpoint.from_directory(str(place)), metrics)

    @override(Algorithm)
    def restore(self, checkpoint_path: Any) -> None:
        """Goes on from what Tune takes for the last checkpoint of this run.

        If that one is damaged, the furthest whole one beside it is taken. If there is none, the run
        begins anew: what was asked before is not asked again.
        """
        checkpoint = getattr(checkpoint_path, "checkpoint", None)
        if checkpoint is not None and Path(checkpoint.path).resolve().parent == self.folder:
            named = Path(checkpoint.path).resolve()
            wrong = manifest.damage(named)
            if wrong is not None:
                other = manifest.newest_whole_beside(named)
                logger.warning("checkpoint %s is damaged: %s; taken: %s", named, wrong, other)
                if other is None:
                    return
                progress = manifest.progress_of(other)
                metrics = {
                    TRAINING_ITERATION: progress.training_iteration,
                    TIME_TOTAL_S: progress.time_total_s,
                }
                checkpoint_path = _TrainingResult(Checkpoint.from_directory(str(other)), metrics)
        super().restore(checkpoint_path)
