"""Thompson sampling for best arm identification: which pair teaches the most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import (
    Selection,
    argmax_of_other_text,
    draw_members,
    has_two_texts,
    member_argmax,
)


def preference_variance(rewards: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Epistemic variance of the probability that ``first`` beats each candidate.

    ``Var_k[sigmoid(r_k(x, y) - r_k(x, b))]`` over the K members (population variance).

    Args:
        rewards: (K, B, M).
        first: (B,) index of y.

    Returns:
        (B, M); 0 at ``first`` itself.
    """
    num_members, num_prompts, _ = rewards.shape
    index = first.view(1, num_prompts, 1).expand(num_members, -1, -1)
    return torch.sigmoid(rewards.gather(2, index) - rewards).var(dim=0, unbiased=False)


def bai_ts(
    rewards: torch.Tensor, texts: torch.Tensor, rngs: Sequence[np.random.Generator]
) -> Selection:
    """BAI Thompson sampling (SEA, Algorithm 2, lines 4 and 5, BAI branch).

    The first response is the favourite of a uniformly drawn member; the second is the
    candidate against which the ensemble disagrees most about who wins. With K = 1 there
    is no disagreement, all variances are 0, and the second response is the first
    candidate of another text.

    Args:
        rewards: (K, B, M) reward of each candidate by each member.
        texts: (B, M) text identities.
        rngs: B generators.
    """
    member = draw_members(rewards.shape[0], rngs)
    first = member_argmax(rewards, member)
    second = argmax_of_other_text(preference_variance(rewards, first), texts, first)
    return Selection(first.numpy(), second.numpy(), member.numpy(), has_two_texts(texts).numpy())
