"""The replay of oracle labels: all the ERM ever learns from."""

from __future__ import annotations

from typing import Any

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


class PreferenceReplay:
    """D of Algorithm 2, as encoder features: one row a label.

    Features are kept, not texts: the encoder is frozen, so they never go stale. Which members
    learn from a label is drawn once, when it comes in, and kept with it.
    """

    def __init__(self) -> None:
        self._chosen: list[np.ndarray] = []
        self._rejected: list[np.ndarray] = []
        self._masks: list[np.ndarray | None] = []

    def __len__(self) -> int:
        return len(self._chosen)

    def add(self, chosen: np.ndarray, rejected: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Adds one label.

        Args:
            chosen: (d,) features of the preferred response.
            rejected: (d,) features of the other.
            mask: (K,) bool from :func:`draw_mask`; None: all members learn from it.
        """
        # Copies: the rows are views of a round's arrays, which they would keep alive.
        self._chosen.append(np.array(chosen, dtype=np.float32))
        self._rejected.append(np.array(rejected, dtype=np.float32))
        self._masks.append(None if mask is None else np.array(mask, dtype=bool))

    def minibatches(
        self, count: int, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Draws minibatches, each without repeats (SEA, Algorithm 2, line 7).

        Args:
            count: m, the number of minibatches.
            size: Labels in each; all labels where there are fewer.
            rng: The generator.

        Returns:
            Features of the chosen and of the rejected responses, each
            (count * min(size, len(self)), d), minibatch after minibatch; and the masks of
            their labels, (count * min(size, len(self)), K) bool, None where every member
            learns from every label.
        """
        size = min(size, len(self))
        rows = np.concatenate(
            [rng.choice(len(self), size=size, replace=False) for _ in range(count)]
        )
        chosen = np.stack([self._chosen[i] for i in rows])
        rejected = np.stack([self._rejected[i] for i in rows])
        masks = self._all_masks()
        return chosen, rejected, None if masks is None else masks[rows]

    def _all_masks(self) -> np.ndarray | None:
        """(N, K) bool, or None where no label has a mask."""
        everyone = next((np.ones_like(mask) for mask in self._masks if mask is not None), None)
        if everyone is None:
            return None
        return np.stack([everyone if mask is None else mask for mask in self._masks])

    def get_state(self) -> dict[str, Any]:
        """Everything: two (N, d) arrays, and the (N, K) masks or None."""
        return {
            "chosen": np.array(self._chosen),
            "rejected": np.array(self._rejected),
            "masks": self._all_masks(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Replaces the contents by those of :meth:`get_state`."""
        self._chosen = list(state["chosen"])
        self._rejected = list(state["rejected"])
        masks = state["masks"]
        self._masks = [None] * len(self._chosen) if masks is None else list(masks)
