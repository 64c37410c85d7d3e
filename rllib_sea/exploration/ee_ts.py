"""Thompson sampling for explore and exploit: two posterior favourites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import Selection, argmax_of_other_text, has_two_texts


def ee_ts(
    rewards: torch.Tensor, texts: torch.Tensor, rngs: Sequence[np.random.Generator]
) -> Selection:
    """E&E Thompson sampling (SEA, Algorithm 2, lines 4 and 5, E&E branch).

    Both responses are favourites of drawn members; members are drawn again until the
    favourite's text differs from the first's. Drawing with replacement until success
    gives the same distribution as walking through one random order of the members, so
    one permutation a prompt replaces the loop. Where every member has the same favourite
    no draw can succeed; the second response is then the best other text by the
    ensemble's mean reward.

    Args:
        rewards: (K, B, M) reward of each candidate by each member.
        texts: (B, M) text identities.
        rngs: B generators.
    """
    num_members, num_prompts, _ = rewards.shape
    order = torch.from_numpy(np.stack([rng.permutation(num_members) for rng in rngs]))
    favourites = rewards.argmax(dim=2).T.gather(1, order)  # (B, K) in drawn order
    favourite_texts = texts.gather(1, favourites)
    first = favourites[:, 0]
    differs = favourite_texts != favourite_texts[:, :1]
    drawn_second = favourites[torch.arange(num_prompts), differs.int().argmax(dim=1)]
    runner_up = argmax_of_other_text(rewards.mean(dim=0), texts, first)
    second = torch.where(differs.any(dim=1), drawn_second, runner_up)
    return Selection(
        first.numpy(), second.numpy(), order[:, 0].numpy(), has_two_texts(texts).numpy()
    )
