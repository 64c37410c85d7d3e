"""The best of all pairs of candidates."""

from __future__ import annotations

import torch

from rllib_sea.exploration.base import (
    Proposals,
    Selection,
    copies_are_alike,
    is_copy,
    make_selection,
)


def unordered_pairs(num_candidates: int) -> torch.Tensor:
    """(2, P) the pairs i <= j, by i and then j; a candidate with itself is among them."""
    return torch.triu_indices(num_candidates, num_candidates)


def ordered_pairs(num_candidates: int) -> torch.Tensor:
    """(2, M * M) all pairs (i, j), by i and then j."""
    index = torch.arange(num_candidates)
    return torch.cartesian_prod(index, index).T


def member_differences(rewards: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """(K, B, P) the logit ``r_k(i) - r_k(j)`` of every member for every pair.

    Args:
        rewards: (K, B, M).
        pairs: (2, P) indices.
    """
    return rewards.index_select(2, pairs[0]) - rewards.index_select(2, pairs[1])


def best_pair(proposals: Proposals, values: torch.Tensor, pairs: torch.Tensor) -> Selection:
    """The pair of different texts with the largest value; of equal ones the first in ``pairs``.

    If copies of one text stand for each other, only the first of them is looked at: a value
    that two pairs share could differ in its last bit, by which other prompts are in the batch.

    There is a clash if the largest value of all belongs to a pair of equal texts (if all values
    are equal, that is the first candidate with itself).

    Args:
        proposals: What is chosen from.
        values: (B, P) what to maximise.
        pairs: (2, P) indices.
    """
    first_text, second_text = proposals.texts[:, pairs[0]], proposals.texts[:, pairs[1]]
    equal = first_text == second_text
    illegal = equal
    if copies_are_alike(proposals):
        copy = is_copy(proposals.texts)
        illegal = equal | copy[:, pairs[0]] | copy[:, pairs[1]]
    best = values.masked_fill(illegal, -torch.inf).argmax(dim=1)
    first, second = pairs[0][best], pairs[1][best]
    clash = equal.gather(1, values.argmax(dim=1, keepdim=True))[:, 0]
    return make_selection(proposals, first, second, favourite=torch.where(clash, first, second))
