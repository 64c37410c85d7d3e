"""Versions of the policy that env runners can fetch, and which of them samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

import ray

from rllib_sea.policy.audit import REHEARSAL_VERSION, PublishedWeights
from rllib_sea.policy_update.feed import WhichWeights
from rllib_sea.policy_update.trainer import FixedPolicy, PolicyTrainer


@dataclass(frozen=True)
class PublishedPolicy:
    """A version of the policy's weights that env runners can fetch.

    Attributes:
        version: The number of updates made.
        place: Where the weights are: in Ray's object store, or in this process; None for a policy
            that is not trained: engines start with it.
        name: Tells it from others of the same version: a restored run may have other weights.
    """

    version: int
    place: ray.ObjectRef | PublishedWeights | None
    name: str = field(default_factory=lambda: uuid4().hex)

    def fetch(self) -> PublishedWeights:
        """The weights, not to be written to."""
        assert self.place is not None
        if isinstance(self.place, PublishedWeights):
            return self.place
        return ray.get(self.place)


class Publisher:
    """Puts the policy's weights where every env runner can fetch them, each version once.

    Args:
        trainer: Who has them.
        copies: Whether env runners get copies: if they are processes of their own, or want a
            version for longer than until the next update.
    """

    def __init__(self, trainer: PolicyTrainer | FixedPolicy, *, copies: bool) -> None:
        self._trainer = trainer
        self._copies = copies
        self._initial: PublishedPolicy | None = None
        self._published: PublishedPolicy | None = None

    def current(self) -> PublishedPolicy:
        """The policy as it is now."""
        version = self._trainer.version
        if version == 0:
            return self.initial()
        if self._published is None or self._published.version != version:
            self._published = None  # the store need not hold both
            self._published = self._publish(version, "trained")
        return self._published

    def initial(self) -> PublishedPolicy:
        """The initial policy, which is the reference policy."""
        if self._initial is None:
            self._initial = self._publish(0, "initial")
        return self._initial

    def rehearsal(self) -> PublishedPolicy:
        """Other weights, by which an engine is tried before it is needed."""
        return self._publish(REHEARSAL_VERSION, "rehearsal")

    def forget_initial(self) -> None:
        """Frees the initial weights; they are published again if they are wanted again."""
        self._initial = None

    def forget_current(self) -> None:
        """What was published is of another run, or of another time, of the same version."""
        self._published = None

    def _publish(self, version: int, which: WhichWeights) -> PublishedPolicy:
        if isinstance(self._trainer, FixedPolicy):
            return PublishedPolicy(version, None)
        weights = self._trainer.weights(which)
        # Owned by this process: a training worker's death must not take them along.
        return PublishedPolicy(version, ray.put(weights) if self._copies else weights)
