"""The replay of oracle labels: all the ERM ever learns from."""

from __future__ import annotations

from typing import Any

import numpy as np


class PreferenceReplay:
    """D of Algorithm 2, as encoder features: one row a label.

    Features are kept, not texts: the encoder is frozen, so they never go stale.
    """

    def __init__(self) -> None:
        self._chosen: list[np.ndarray] = []
        self._rejected: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._chosen)

    def add(self, chosen: np.ndarray, rejected: np.ndarray) -> None:
        """Adds one label: (d,) features of the preferred and of the other response."""
        # Copies: the rows are views of a round's arrays, which they would keep alive.
        self._chosen.append(np.array(chosen, dtype=np.float32))
        self._rejected.append(np.array(rejected, dtype=np.float32))

    def minibatches(
        self, count: int, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws minibatches, each without repeats (SEA, Algorithm 2, line 7).

        Args:
            count: m, the number of minibatches.
            size: Labels in each; all labels where there are fewer.
            rng: The generator.

        Returns:
            Features of the chosen and of the rejected responses, each
            (count * min(size, len(self)), d), minibatch after minibatch.
        """
        size = min(size, len(self))
        rows = np.concatenate(
            [rng.choice(len(self), size=size, replace=False) for _ in range(count)]
        )
        chosen = np.stack([self._chosen[i] for i in rows])
        rejected = np.stack([self._rejected[i] for i in rows])
        return chosen, rejected

    def get_state(self) -> dict[str, Any]:
        """Everything, as two (N, d) arrays."""
        return {"chosen": np.array(self._chosen), "rejected": np.array(self._rejected)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Replaces the contents by those of :meth:`get_state`."""
        self._chosen = list(state["chosen"])
        self._rejected = list(state["rejected"])
