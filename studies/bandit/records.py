"""What a round of the bandit tier is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Duels:
    """A round's duels.

    Attributes:
        prompts: (B,) indices.
        pool: (B, M) the candidates, as indices of responses.
        rewards: (K, B, M) by the ERM's members.
        first_place: (B,) the first response's place among the candidates.
        second_place: (B,) that of the second.
        first: (B,) index of the first response.
        second: (B,) index of the second response.
        first_from_reference: (B,) bool, whether the first is from the reference policy.
        valid: (B,) bool, whether the prompt has a duel.
        real: (B,) bool, whether the oracle was asked.
        audited: (B,) bool, whether the oracle was asked about a pair that the ERM would label.
        preference: (B,) labels, the oracle's or the ERM's: how probably the first response is
            preferred.
    """

    prompts: np.ndarray
    pool: np.ndarray
    rewards: np.ndarray
    first_place: np.ndarray
    second_place: np.ndarray
    first: np.ndarray
    second: np.ndarray
    first_from_reference: np.ndarray
    valid: np.ndarray
    real: np.ndarray
    audited: np.ndarray
    preference: np.ndarray

    @property
    def first_wins(self) -> np.ndarray:
        """(B,) bool, whether the first response is preferred, or neither is."""
        return self.preference >= 0.5


@dataclass(frozen=True)
class LabelledPairs:
    """What the policy learns from.

    Attributes:
        prompts: (N,) indices.
        chosen: (N,) indices of the preferred responses.
        rejected: (N,) indices of the others.
        chosen_from_reference: (N,) bool, whether the preferred one is from the reference policy.
        rounds: (N,) in which they were labelled.
        preference: (N,) how probably the preferred one is preferred, in [0.5, 1].
    """

    prompts: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    chosen_from_reference: np.ndarray
    rounds: np.ndarray
    preference: np.ndarray

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: np.ndarray) -> LabelledPairs:
        """Some of them, by their indices or by (N,) bool."""
        return LabelledPairs(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __add__(self, others: LabelledPairs) -> LabelledPairs:
        columns = ((getattr(self, f.name), getattr(others, f.name)) for f in fields(self))
        return LabelledPairs(*map(np.concatenate, columns))
