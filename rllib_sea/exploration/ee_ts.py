"""Thompson sampling for explore and exploit: two posterior favourites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import (
    Proposals,
    Selection,
    argmax_of_other_text,
    make_selection,
)


def ee_ts(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """E&E Thompson sampling (SEA, Algorithm 2, lines 4 and 5, E&E branch).

    Both responses are favourites of drawn members; members are drawn again until the
    favourite's text differs from the first's. Drawing with replacement until success
    gives the same distribution as walking through one random order of the members, so
    one permutation per prompt replaces the loop. If every member has the same favourite,
    no draw can succeed; the second response is then the best other text by the
    ensemble's mean reward.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators.
    """
    rewards, texts = proposals.rewards, proposals.texts
    num_members, num_prompts, _ = rewards.shape
    order = torch.from_numpy(np.stack([rng.permutation(num_members) for rng in rngs]))
    favourites = rewards.argmax(dim=2).T.gather(1, order)  # (B, K) in drawn order
    favourite_texts = texts.gather(1, favourites)
    first = favourites[:, 0]
    differs = favourite_texts != favourite_texts[:, :1]
    drawn_second = favourites[torch.arange(num_prompts), differs.int().argmax(dim=1)]
    runner_up = argmax_of_other_text(rewards.mean(dim=0), texts, first)
    second = torch.where(differs.any(dim=1), drawn_second, runner_up)
    # The walk starts at the first response's own member, with whom it always agrees: the
    # second draw of the paper's loop is the next one (K = 1 has none).
    favourite = favourites[:, min(1, num_members - 1)]
    return make_selection(proposals, first, second, order[:, 0], favourite=favourite)
