"""What each Ray Train worker runs: commands from the feed, one after another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch

from rllib_sea.memory import release_memory
from rllib_sea.policy.audit import PublishedWeights
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.feed import (
    Load,
    Refusal,
    Reinforce,
    Save,
    Score,
    Start,
    Stop,
    Update,
    Weights,
)
from rllib_sea.policy_update.learner import NonFiniteUpdateError, PolicyLearner


def train_loop(config: PolicyTrainConfig, feed: Any) -> None:
    """The ``train_loop_per_worker`` of the policy's run, once it has its arguments.

    Every worker reads all commands; the first one answers them.

    Args:
        config: The run's configuration.
        feed: The handle of the actor that gives the commands.
    """
    first = ray.train.get_context().get_world_rank() == 0
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    learner = PolicyLearner(config)
    start: Start = ray.get(feed.start.remote())
    if start.snapshot is not None:
        learner.load(Path(start.snapshot))
    position, updates_since_snapshot = start.position, 0
    while True:
        command, answered = ray.get(feed.read.remote(position))
        if isinstance(command, Stop):
            return
        answer: Any = None
        if isinstance(command, Update | Reinforce):
            try:
                if isinstance(command, Update):
                    answer = learner.update(command.pairs)
                else:
                    answer = learner.reinforce(command.prompts)
            except NonFiniteUpdateError as error:
                answer = Refusal(str(error))
            updates_since_snapshot += 1
        elif isinstance(command, Load):
            learner.load(Path(command.folder))
            answer = learner.version
            # The folder belongs to somebody else, who may remove it.
            updates_since_snapshot = config.snapshot_every
        elif not answered and isinstance(command, Score):
            answer = learner.score(command.prompts)
        elif not answered and isinstance(command, Weights):
            answer = _in_object_store(learner.weights(command.which), first)
        elif not answered and isinstance(command, Save):
            learner.save(Path(command.folder))
        release_memory()
        if first and not answered:
            ray.get(feed.commit.remote(position, answer))
        position += 1
        if updates_since_snapshot >= config.snapshot_every:
            _take_snapshot(learner, config, feed, position, first)
            updates_since_snapshot = 0


def _in_object_store(weights: PublishedWeights, first: bool) -> list[ray.ObjectRef] | None:
    """A reference within a list: that is passed on, a bare one would be fetched."""
    return [ray.put(weights)] if first else None


def _take_snapshot(
    learner: PolicyLearner, config: PolicyTrainConfig, feed: Any, position: int, first: bool
) -> None:
    """Writes a snapshot and removes the one before, once the feed knows the new one."""
    folder = Path(config.storage_path) / f"snapshot-{position}"
    learner.save(folder)
    if first:
        previous = ray.get(feed.start.remote()).snapshot
        ray.get(feed.commit_snapshot.remote(Start(position, str(folder))))
        if previous is not None and previous != str(folder):
            shutil.rmtree(previous, ignore_errors=True)
