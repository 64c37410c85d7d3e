"""The policy's Ray Train run: started once, fed round by round."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy.audit import PublishedWeights
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.feed import (
    Command,
    Feed,
    Load,
    Refusal,
    Reinforce,
    Save,
    Score,
    Stop,
    Update,
    Weights,
    WhichWeights,
)
from rllib_sea.policy_update.learner import NonFiniteUpdateError
from rllib_sea.policy_update.objectives.optimism import check_pairs
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses, ResponseScores
from rllib_sea.policy_update.worker import train_loop

STOP_TIMEOUT_S = 30.0
# Read by Ray Train where `fit()` is called. Polling its workers takes the controller 3 ms; with
# Ray's 2 s between polls, the end of a run and a worker's death are noticed late. The watcher of
# preempted nodes is one process more; what it is for, saving in time, is not needed: updates that a
# dead worker takes along are repeated.
RAY_TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


class PolicyTrainRun:
    """A long-lived ``TorchTrainer.fit()`` and the feed that it works for.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: PolicyTrainConfig) -> None:
        self.config = config
        self.version = 0
        self._feed: Any = None
        self._fit: Future[None] = Future()

    def start(self) -> None:
        """Starts the run; returns at once. Commands wait until the workers are there."""
        # It takes no CPU: it passes messages on.
        self._feed = ray.remote(num_cpus=0)(Feed).remote()
        self._fit = Future()
        # In this process, which has imported what `fit()` needs: a process of its own would first
        # do so for seconds. The thread must not keep a program alive that forgets to stop the run.
        threading.Thread(
            target=_fit, args=(self.config, self._feed, self._fit), name="policy-fit", daemon=True
        ).start()

    def update(self, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """One optimizer step on a round's pairs.

        See :meth:`rllib_sea.policy_update.learner.PolicyLearner.update`.

        Raises:
            NonFiniteUpdateError: The weights are as they were.
            ValueError: For a pair without what the optimism term needs.
        """
        check_pairs(self.config.optimism, pairs)  # in a worker, an error would end the run
        return self._update(Update(tuple(pairs)))

    def reinforce(self, prompts: Sequence[CandidateAdvantages]) -> dict[str, float]:
        """One optimizer step on a round's candidates.

        See :meth:`rllib_sea.policy_update.learner.PolicyLearner.reinforce`.

        Raises:
            NonFiniteUpdateError: The weights are as they were.
        """
        return self._update(Reinforce(tuple(prompts)))

    def _update(self, command: Update | Reinforce) -> dict[str, float]:
        answer = self._submit(command)
        if isinstance(answer, Refusal):
            raise NonFiniteUpdateError(answer.reason)
        self.version += 1
        return answer

    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        """What policy and reference think of responses.

        See :meth:`rllib_sea.policy_update.learner.PolicyLearner.score`.
        """
        return self._submit(Score(tuple(prompts)))

    def weights(self, which: WhichWeights = "trained") -> PublishedWeights:
        """Weights with their probe.

        See :meth:`rllib_sea.policy_update.learner.PolicyLearner.weights`.
        """
        while True:
            (reference,) = self._submit(Weights(which))
            try:
                return ray.get(reference)
            except (ray.exceptions.OwnerDiedError, ray.exceptions.ObjectLostError):
                continue  # the worker died after it answered; the new one is asked

    def save(self, folder: str) -> None:
        """Writes model, optimizer and schedule to a folder."""
        self._submit(Save(folder))

    def load(self, folder: str) -> None:
        """Goes on from a folder that :meth:`save` wrote."""
        self.version = self._submit(Load(folder))

    def stop(self) -> None:
        """Ends the workers, and kills what does not end by itself."""
        if self._feed is None:
            return
        try:
            ray.get(self._feed.submit.remote(Stop()), timeout=STOP_TIMEOUT_S)
            self._fit.exception(timeout=STOP_TIMEOUT_S)  # one was reported when it happened
        except (RayError, TimeoutError):
            self._kill()
        ray.kill(self._feed)
        self._feed = None

    def _kill(self) -> None:
        """Ends a run that hangs: workers end with their controller."""
        try:
            (controller,) = ray.get(self._feed.controller.remote(), timeout=STOP_TIMEOUT_S)
        except (RayError, ValueError):
            return  # without a feed, workers fail
        ray.kill(controller)

    def _submit(self, command: Command) -> Any:
        """Gives a command and waits for its answer, or for the end of the run."""
        answer = self._feed.submit.remote(command).future()
        wait([answer, self._fit], return_when=FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        error = self._fit.exception()
        if error is not None:
            raise RuntimeError(
                f"the policy's Ray Train run failed (max_train_failures "
                f"{self.config.max_train_failures}): {_cause(error)}"
            ) from error
        raise RuntimeError("the policy's Ray Train run ended before it was told to")


def _fit(config: PolicyTrainConfig, feed: Any, end: Future[None]) -> None:
    """Runs the workers until they are told to stop; then sets ``end``."""
    try:
        _trainer(config, feed).fit()
    except BaseException as error:
        end.set_exception(error)
    else:
        end.set_result(None)


def _trainer(config: PolicyTrainConfig, feed: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from rllib_sea.policy_update.controller import Announcement

    for key, value in RAY_TRAIN_SETTINGS.items():
        os.environ.setdefault(key, value)
    on_gpu = config.num_gpus_per_train_worker > 0
    resources = {"CPU": config.num_cpus_per_train_worker}
    if on_gpu:
        resources["GPU"] = config.num_gpus_per_train_worker
    threads = str(config.threads_per_worker)
    environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    if not on_gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    return TorchTrainer(
        # As a part of the function the configuration is read by the workers alone; the
        # controller would import what it is made of.
        partial(train_loop, config, feed),
        scaling_config=ScalingConfig(
            num_workers=config.num_train_workers,
            use_gpu=on_gpu,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=RunConfig(
            # A name that was there before would silently go on with that run.
            name=f"policy-{uuid.uuid4().hex[:12]}",
            storage_path=config.storage_path,
            failure_config=FailureConfig(max_failures=config.max_train_failures),
            worker_runtime_env={"env_vars": environment},
            callbacks=[Announcement(feed)],
        ),
    )


def _cause(error: BaseException) -> str:
    """The innermost exception that a failed run was caused by, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
