"""No exploration: two samples of the policy, as in online DPO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import Selection, has_two_texts


def passive(
    rewards: torch.Tensor, texts: torch.Tensor, rngs: Sequence[np.random.Generator]
) -> Selection:
    """Passive sampling (SEA, section 6.1: online DPO).

    The first candidate and the first after it with another text; the rewards and the
    generators are not looked at.

    Args:
        rewards: (K, B, M), unused.
        texts: (B, M) text identities.
        rngs: B generators, unused.
    """
    del rewards, rngs
    other = texts != texts[:, :1]
    first = np.zeros(texts.shape[0], dtype=np.int64)
    return Selection(
        first,
        other.int().argmax(dim=1).numpy(),
        np.full_like(first, -1),
        has_two_texts(texts).numpy(),
    )
