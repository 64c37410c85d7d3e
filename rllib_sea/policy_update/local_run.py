"""The policy's updates in this process, without Ray Train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from rllib_sea.duels.records import PreferencePair
from rllib_sea.memory import release_memory
from rllib_sea.policy.audit import PublishedWeights
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.feed import WhichWeights
from rllib_sea.policy_update.learner import PolicyLearner
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses, ResponseScores


class LocalRun:
    """Does what :class:`rllib_sea.policy_update.run.PolicyTrainRun` does, by the same learner.

    It needs no process and no copy of the weights on their way, and survives nothing: what
    kills the learner kills the Algorithm, which goes on from its last checkpoint.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: PolicyTrainConfig) -> None:
        self._config = config

    @cached_property
    def _learner(self) -> PolicyLearner:
        return PolicyLearner(self._config)

    @property
    def version(self) -> int:
        """The number of updates made."""
        return self._learner.version

    def start(self) -> None:
        """Loads the policy."""
        _ = self._learner

    def update(self, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """See :meth:`rllib_sea.policy_update.learner.PolicyLearner.update`."""
        try:
            return self._learner.update(pairs)
        finally:
            release_memory()

    def reinforce(self, prompts: Sequence[CandidateAdvantages]) -> dict[str, float]:
        """See :meth:`rllib_sea.policy_update.learner.PolicyLearner.reinforce`."""
        try:
            return self._learner.reinforce(prompts)
        finally:
            release_memory()

    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        """See :meth:`rllib_sea.policy_update.learner.PolicyLearner.score`."""
        try:
            return self._learner.score(prompts)
        finally:
            release_memory()

    def weights(self, which: WhichWeights = "trained") -> PublishedWeights:
        """See :meth:`rllib_sea.policy_update.learner.PolicyLearner.weights`."""
        return self._learner.weights(which)

    def save(self, folder: str) -> None:
        """Writes model, optimizer and schedule to a folder."""
        self._learner.save(Path(folder))

    def load(self, folder: str) -> None:
        """Goes on from a folder that :meth:`save` wrote."""
        self._learner.load(Path(folder))

    def stop(self) -> None:
        """Forgets the policy."""
        self.__dict__.pop("_learner", None)
