"""What a reader sees of a response's end: whether it was finished, and how long it became."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rllib_sea.duels.records import Candidate

NUM_END_FEATURES = 2
# log2 of 32 tokens: the length's feature is 0 there.
TYPICAL_LENGTH = 5.0


def end_features(candidates: Sequence[Sequence[Candidate]], dim: int) -> np.ndarray:
    """Features that stand beside a text's, which does not say that it was cut.

    Each is scaled by ``sqrt(dim) / 4``: an eighth of the squared length of a feature vector of root
    mean square 1, so that a few labels teach them to heads that begin with equal weights.

    Args:
        candidates: B lists of M responses.
        dim: How many features a text has beside these.

    Returns:
        (B, M, 2) float32: 1 if the end token was sampled, else -1; log2 of the number of tokens,
        less 5. Both times ``sqrt(dim) / 4``.
    """
    values = [
        [
            (
                1.0 if candidate.finish_reason == "stop" else -1.0,
                math.log2(max(1, len(candidate.token_ids))) - TYPICAL_LENGTH,
            )
            for candidate in row
        ]
        for row in candidates
    ]
    shape = (len(candidates), len(candidates[0]) if candidates else 0, NUM_END_FEATURES)
    return np.array(values, dtype=np.float32).reshape(shape) * np.float32(math.sqrt(dim) / 4)
