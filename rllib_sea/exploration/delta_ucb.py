"""The pair with the largest optimistic gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_sea.exploration.base import Proposals, Selection
from rllib_sea.exploration.bounds import centred
from rllib_sea.exploration.pairs import best_pair, ordered_pairs


def delta_ucb(
    proposals: Proposals,
    rngs: Sequence[np.random.Generator],
    *,
    confidence: float = 1.0,
) -> Selection:
    """DeltaUCB (ActiveUltraFeedback, arXiv 2603.09692).

    ``argmax_{i != j} (mu_i + b s_i) - (mu_j - b s_j)``, with mean ``mu`` and standard
    deviation ``s`` over the K members (population) of the members' centred rewards (see
    :func:`rllib_sea.exploration.bounds.centred`; raw ones would make the rule depend on
    constants that no label determines). K = 1 gives the best against the worst; equal rewards
    give the first candidate and the first of another text. There is a clash if the largest gap
    is that of one text with itself: the interval of a single candidate.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators, unused.
        confidence: b, at least 0.
    """
    del rngs
    rewards = centred(proposals.rewards)
    mean = rewards.mean(dim=0)
    margin = confidence * rewards.std(dim=0, unbiased=False)
    pairs = ordered_pairs(proposals.texts.shape[1])
    gap = (mean + margin)[:, pairs[0]] - (mean - margin)[:, pairs[1]]
    return best_pair(proposals, gap, pairs)
