"""The replay of oracle labels: all the ERM ever learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


def draw_mask(num_members: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Which members learn from a label: each with that probability, but never none.

    A label that no member drew goes to one of them, drawn uniformly: every label was paid for.
    For K = 20 and a probability of 0.5 that happens once in a million labels.

    Args:
        num_members: K.
        probability: In (0, 1].
        rng: The generator.

    Returns:
        (K,) bool.
    """
    mask = rng.random(num_members) < probability
    if not mask.any():
        mask[rng.integers(num_members)] = True
    return mask


class ReplayedLabels(NamedTuple):
    """N labels as the ERM learns from them.

    Attributes:
        chosen: (N, d) features of the preferred responses, float32.
        rejected: (N, d) features of the others, float32.
        masks: (N, K) bool, which members learn from each; None: all from all.
        preferences: (N,) probabilities that the preferred responses are preferred, float32.
        weights: (N,) how much each label counts, float32.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    masks: np.ndarray | None
    preferences: np.ndarray
    weights: np.ndarray


class PreferenceReplay:
    """D of Algorithm 2, as encoder features: one row per label.

    Features are kept, not texts: the encoder is frozen, so they never go stale. Which members
    learn from a label is drawn once, when it comes in, and kept with it.
    """

    def __init__(self) -> None:
        self._chosen: list[np.ndarray] = []
        self._rejected: list[np.ndarray] = []
        self._masks: list[np.ndarray | None] = []
        self._preferences: list[float] = []
        self._weights: list[float] = []

    def __len__(self) -> int:
        return len(self._chosen)

    def add(
        self,
        chosen: np.ndarray,
        rejected: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        preference: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        """Adds one label.

        Args:
            chosen: (d,) features of the preferred response.
            rejected: (d,) features of the other.
            mask: (K,) bool from :func:`draw_mask`; None: all members learn from it.
            preference: Probability that the preferred response is preferred, in [0.5, 1].
            weight: How much the label counts.
        """
        # Copies: the rows are views of a round's arrays, which they would keep alive.
        self._chosen.append(np.array(chosen, dtype=np.float32))
        self._rejected.append(np.array(rejected, dtype=np.float32))
        self._masks.append(None if mask is None else np.array(mask, dtype=bool))
        self._preferences.append(preference)
        self._weights.append(weight)

    def minibatches(self, count: int, size: int, rng: np.random.Generator) -> ReplayedLabels:
        """Draws minibatches, each without repeats (SEA, Algorithm 2, line 7).

        Args:
            count: m, the number of minibatches.
            size: Labels in each; all labels if there are fewer.
            rng: The generator.

        Returns:
            ``count * min(size, len(self))`` labels, minibatch after minibatch.
        """
        size = min(size, len(self))
        rows = np.concatenate(
            [rng.choice(len(self), size=size, replace=False) for _ in range(count)]
        )
        masks = self._all_masks()
        return ReplayedLabels(
            chosen=np.stack([self._chosen[i] for i in rows]),
            rejected=np.stack([self._rejected[i] for i in rows]),
            masks=None if masks is None else masks[rows],
            preferences=np.array(self._preferences, dtype=np.float32)[rows],
            weights=np.array(self._weights, dtype=np.float32)[rows],
        )

    def _all_masks(self) -> np.ndarray | None:
        """(N, K) bool, or None if no label has a mask."""
        everyone = next((np.ones_like(mask) for mask in self._masks if mask is not None), None)
        if everyone is None:
            return None
        return np.stack([everyone if mask is None else mask for mask in self._masks])

    def get_state(self) -> dict[str, Any]:
        """Everything: two (N, d) arrays, the (N, K) masks or None, and two (N,) arrays."""
        return {
            "chosen": np.array(self._chosen),
            "rejected": np.array(self._rejected),
            "masks": self._all_masks(),
            "preferences": np.array(self._preferences),
            "weights": np.array(self._weights),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Replaces the contents by those of :meth:`get_state`."""
        self._chosen = list(state["chosen"])
        self._rejected = list(state["rejected"])
        masks = state["masks"]
        self._masks = [None] * len(self._chosen) if masks is None else list(masks)
        self._preferences = state["preferences"].tolist()
        self._weights = state["weights"].tolist()
