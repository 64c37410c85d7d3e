"""Pure exploration by the logit: the pair that the ensemble disagrees most about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_sea.exploration.base import Proposals, Selection, member_variance
from rllib_sea.exploration.pairs import best_pair, member_differences, unordered_pairs


def uncertainty(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """Uncertainty (SEA, section 6.4, ablation of the exploration).

    ``argmax_{i < j} Var_k[r_k(x, i) - r_k(x, j)]`` over the K members (population variance).
    If the members do not disagree about any pair (K = 1, equal rewards), all variances
    are 0, and the pair is the first candidate and the first of another text.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators, unused.
    """
    del rngs
    pairs = unordered_pairs(proposals.texts.shape[1])
    margins = member_differences(proposals.rewards, pairs)
    variance = member_variance(margins, margins)
    return best_pair(proposals, variance, pairs)
