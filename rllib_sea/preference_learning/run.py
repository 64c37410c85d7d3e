"""The policy's Ray Train run: started once, fed round by round."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from rllib_sea.duels.records import PreferencePair
from rllib_sea.preference_learning.config import PolicyTrainConfig
from rllib_sea.preference_learning.feed import (
    Command,
    Feed,
    Load,
    Refusal,
    Save,
    Score,
    Stop,
    Update,
    Weights,
)
from rllib_sea.preference_learning.learner import NonFiniteUpdateError
from rllib_sea.preference_learning.optimism import check_pairs
from rllib_sea.preference_learning.scores import PromptResponses, ResponseScores
from rllib_sea.preference_learning.worker import train_loop

STOP_TIMEOUT_S = 30.0


class PolicyTrainRun:
    """A long-lived ``TorchTrainer.fit()`` and the feed that it works for.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: PolicyTrainConfig) -> None:
        self.config = config
        self.version = 0
        self._feed: Any = None
        self._fit: Any = None

    def start(self) -> None:
        """Starts the run; returns at once. Commands wait until the workers are there."""
        # It takes no CPU: it waits and passes messages on.
        self._feed = ray.remote(num_cpus=0)(_FittingFeed).remote()
        self._fit = self._feed.fit.remote(self.config)

    def update(self, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """One optimizer step on a round's pairs; see :meth:`PolicyLearner.update`.

        Raises:
            NonFiniteUpdateError: The weights are as they were.
            ValueError: For a pair without what the optimism term needs.
        """
        check_pairs(self.config.optimism, pairs)  # in a worker, an error would end the run
        answer = self._submit(Update(tuple(pairs)))
        if isinstance(answer, Refusal):
            raise NonFiniteUpdateError(answer.reason)
        self.version += 1
        return answer

    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        """What policy and reference think of responses; see :meth:`PolicyLearner.score`."""
        return self._submit(Score(tuple(prompts)))

    def weights(self) -> Mapping[str, Any]:
        """The current weights: bf16 tensors by name."""
        while True:
            (reference,) = self._submit(Weights())
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
            ray.get(self._fit, timeout=STOP_TIMEOUT_S)
        except RayError:
            pass  # it has failed before, which was reported then, or hangs
        ray.kill(self._feed)
        self._feed = self._fit = None

    def _submit(self, command: Command) -> Any:
        """Gives a command and waits for its answer, or for the end of the run."""
        answer = self._feed.submit.remote(command)
        ray.wait([answer, self._fit], num_returns=1)
        ready, _ = ray.wait([answer], timeout=0)
        if ready:
            return ray.get(answer)
        try:
            ray.get(self._fit)
        except RayActorError:
            raise
        except RayError as error:
            raise RuntimeError(
                f"the policy's Ray Train run failed (max_train_failures "
                f"{self.config.max_failures}): {_cause(error)}"
            ) from error
        raise RuntimeError("the policy's Ray Train run ended before it was told to")


class _FittingFeed(Feed):
    """The feed, in whose process ``fit()`` blocks a thread: one process less to start."""

    async def fit(self, config: PolicyTrainConfig) -> None:
        """Runs the workers until they are told to stop."""
        feed = ray.get_runtime_context().current_actor
        await asyncio.to_thread(_fit, config, feed)


def _fit(config: PolicyTrainConfig, feed: Any) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpu = config.gpus_per_worker > 0
    resources = {"CPU": config.cpus_per_worker}
    if on_gpu:
        resources["GPU"] = config.gpus_per_worker
    threads = str(config.threads_per_worker)
    environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    if not on_gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    TorchTrainer(
        train_loop,
        train_loop_config={"config": config, "feed": feed},
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=on_gpu,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=RunConfig(
            # A name that was there before would silently go on with that run.
            name=f"policy-{uuid.uuid4().hex[:12]}",
            storage_path=config.storage_path,
            failure_config=FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": environment},
        ),
    ).fit()


def _cause(error: BaseException) -> str:
    """The innermost exception that a failed run was caused by, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
