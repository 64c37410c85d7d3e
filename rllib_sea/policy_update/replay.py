"""The policy's replay: which labelled pairs a further step of the direct loss learns from.

Algorithm 2 (line 8) uses a pair for one step. A label costs more than a step, so it may be used
again: ``policy_replay`` steps per round, each on pairs drawn from all that the oracle has labelled
so far, this round's included. Pairs that the ERM labelled are never among them.
"""

from __future__ import annotations

import numpy as np


def draw_replayed(num_pairs: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the pairs of one replayed step, uniformly and without repeats.

    Args:
        num_pairs: Labelled pairs so far.
        size: Pairs wanted.
        rng: The generator.

    Returns:
        (min(size, num_pairs),) int64, indices of pairs in the order in which they were labelled.
    """
    return rng.choice(num_pairs, size=min(size, num_pairs), replace=False)
