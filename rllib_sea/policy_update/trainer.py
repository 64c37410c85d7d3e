"""The policy's Ray Train run as a part of an RLlib checkpoint, and what stands in for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy.audit import PublishedWeights
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.feed import WhichWeights
from rllib_sea.policy_update.local_run import LocalRun
from rllib_sea.policy_update.run import PolicyTrainRun
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses, ResponseScores


class PolicyTrainer(Checkpointable):
    """Owns the run that updates the policy; its state travels as a folder, not as one object.

    The workers write the folder themselves: 1.6 GB for a 135M model with its optimizer
    would otherwise pass through this process twice.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: PolicyTrainConfig) -> None:
        self.config = config
        run = PolicyTrainRun if config.num_train_workers else LocalRun
        self._run: PolicyTrainRun | LocalRun = run(config)

    def start(self) -> None:
        """Starts the run; Ray Train's goes on starting when this returns."""
        self._run.start()

    def stop(self) -> None:
        """Ends the run and its workers."""
        self._run.stop()

    @property
    def version(self) -> int:
        """The version of the current weights: the number of updates made."""
        return self._run.version

    def update(self, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """One optimizer step on a round's pairs.

        Returns:
            The update's metrics.

        Raises:
            NonFiniteUpdateError: If the loss or the gradient is not finite; the weights
                are then unchanged.
        """
        return self._run.update(pairs)

    def reinforce(self, prompts: Sequence[CandidateAdvantages]) -> dict[str, float]:
        """One optimizer step on a round's candidates.

        Returns:
            The update's metrics.

        Raises:
            NonFiniteUpdateError: As for :meth:`update`.
        """
        return self._run.reinforce(prompts)

    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        """Log-probabilities under policy and reference, and the KL divergence between them.

        Args:
            prompts: Prompts with their responses, as tokens.

        Returns:
            The scores of all responses, in the order of ``prompts``.
        """
        return self._run.score(prompts)

    def weights(self, which: WhichWeights = "trained") -> PublishedWeights:
        """Weights with what they say of the probe.

        See :meth:`rllib_sea.policy_update.learner.PolicyLearner.weights`.
        """
        return self._run.weights(which)

    @override(Checkpointable)
    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        assert path is not None
        Path(path).mkdir(parents=True, exist_ok=True)
        self._run.save(str(path))
        return str(path)

    @override(Checkpointable)
    def restore_from_path(self, path: str | Path, **kwargs: Any) -> None:
        self._run.load(str(path))

    @override(Checkpointable)
    def get_state(
        self,
        components: str | Iterable[str] | None = None,
        *,
        not_components: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The version only: the weights are in the folder that `save_to_path` writes."""
        return {"version": self.version}

    @override(Checkpointable)
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to do: see `restore_from_path`."""

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.config,), {}


class FixedPolicy(Checkpointable):
    """Stands in for :class:`PolicyTrainer` if the policy is not trained.

    For learning a reward model alone, to take the best of N responses of the initial policy
    (SEA, Table 1, variant 7). There is no model here and no process: the policy is the one
    that the env runners started with.
    """

    version = 0

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def update(self, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """Learns nothing.

        Returns:
            No metrics.
        """
        return {}

    def reinforce(self, prompts: Sequence[CandidateAdvantages]) -> dict[str, float]:
        """Learns nothing.

        Returns:
            No metrics.
        """
        return {}

    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        """Raises RuntimeError: there is no model here."""
        raise RuntimeError("the policy is not trained, and no process has it for scoring")

    def weights(self, which: WhichWeights = "trained") -> PublishedWeights:
        """Raises RuntimeError: engines start with the initial weights, and keep them."""
        raise RuntimeError("the policy is not trained: engines have the initial weights")

    @override(Checkpointable)
    def get_state(
        self,
        components: str | Iterable[str] | None = None,
        *,
        not_components: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The version, 0."""
        return {"version": self.version}

    @override(Checkpointable)
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {}
