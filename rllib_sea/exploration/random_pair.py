"""The control: two of the M candidates at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import Proposals, Selection, make_selection
from rllib_sea.exploration.pairs import ordered_pairs


def random_pair(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """A uniformly drawn ordered pair of candidates with different texts.

    The control beside every rule that looks at rewards: the same M candidates, no choice
    (Random Is Hard to Beat, arXiv 2604.02766). A text that was sampled more often is drawn
    more often. Never a clash.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators.
    """
    pairs = ordered_pairs(proposals.texts.shape[1])
    differ = proposals.texts[:, pairs[0]] != proposals.texts[:, pairs[1]]
    rank = differ.cumsum(dim=1)  # of each legal pair among the prompt's, from 1
    drawn = [
        int(rng.integers(max(count, 1)))
        for rng, count in zip(rngs, rank[:, -1].tolist(), strict=True)
    ]
    chosen = (rank == torch.tensor(drawn)[:, None] + 1).int().argmax(dim=1)
    first, second = pairs[0][chosen], pairs[1][chosen]
    return make_selection(proposals, first, second, favourite=second)
