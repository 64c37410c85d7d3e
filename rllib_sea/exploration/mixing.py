"""Mixed preference learning: which prompts are asked about, which are labelled by the ERM.

SEA, section 4.2.3 and Algorithm 2, line 6: with probability gamma a prompt's duel goes to
the oracle; otherwise the pair is labelled by a randomly drawn ensemble member. A synthetic
pair is no query, is never shown to the oracle and never enters the ERM's replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rllib_sea.exploration.base import (
    Proposals,
    Selection,
    argmax_of_other_text,
    draw_members,
    first_copy,
    member_argmax,
)
from rllib_sea.settings.duels import Gamma

SYNTHETIC_PAIRS = ("selected_pair", "best_vs_worst")


def gamma_at(gamma: Gamma, num_oracle_queries: int) -> float:
    """The mixture ratio after a number of queries.

    Args:
        gamma: A number, or an RLlib-style schedule ``[[queries, value], ...]``: linear
            between its points, constant outside. ``[[0, 1.0], [1000, 1.0], [1001, 0.7]]``
            is the paper's "1 for the first 1k samples, then 0.7".
        num_oracle_queries: Queries asked so far.

    Returns:
        The probability, in [0, 1], that a prompt's duel is put to the oracle.
    """
    if isinstance(gamma, int | float):
        return float(gamma)
    queries, values = zip(*gamma, strict=True)
    return float(np.interp(num_oracle_queries, queries, values))


def draw_synthetic(gamma: float, rngs: Sequence[np.random.Generator]) -> list[bool]:
    """Whether each prompt's pair is labelled by the ERM: Bernoulli(1 - gamma) per prompt."""
    return [bool(rng.random() >= gamma) for rng in rngs]


def best_and_worst(
    rewards: torch.Tensor, texts: torch.Tensor, member: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A member's best candidate and its worst of another text (the authors' code's choice).

    Args:
        rewards: (K, B, M).
        texts: (B, M) text identities.
        member: (B,) the drawn members.

    Returns:
        Two (B,) index tensors.
    """
    rows = torch.arange(rewards.shape[1])
    best = member_argmax(rewards, member)
    worst = argmax_of_other_text(-rewards[member, rows], texts, best)
    # Of copies of one text the first is taken, as in strategies.
    return first_copy(texts, best), first_copy(texts, worst)


@dataclass(frozen=True, slots=True)
class MixedPairs:
    """A round's pairs, those that the ERM labels among them.

    Attributes:
        first: (B,) index of the first response.
        second: (B,) index of the second response.
        member: (B,) the member that gave the label of a synthetic pair; the one drawn for the
            first response of a real one, -1 if none was.
        first_wins: (B,) the labels of the synthetic pairs; means nothing for real ones.
    """

    first: np.ndarray
    second: np.ndarray
    member: np.ndarray
    first_wins: np.ndarray


def mix(
    selection: Selection,
    proposals: Proposals,
    synthetic: Sequence[bool],
    synthetic_pair: str,
    rngs: Sequence[np.random.Generator],
) -> MixedPairs:
    """Labels the synthetic pairs by a uniformly drawn member each.

    Args:
        selection: The strategy's pairs.
        proposals: What they were selected from.
        synthetic: B times whether the ERM labels.
        synthetic_pair: ``"selected_pair"``: the pair that the strategy selected, as Algorithm 2
            reads; ``"best_vs_worst"``: the drawn member's best and worst candidate, as in the
            authors' code.
        rngs: B generators.
    """
    rewards, texts = proposals.rewards, proposals.texts
    ours = torch.tensor(synthetic)
    member = draw_members(rewards.shape[0], rngs)
    first, second = torch.from_numpy(selection.first), torch.from_numpy(selection.second)
    if synthetic_pair == "best_vs_worst":
        best, worst = best_and_worst(rewards, texts, member)
        first, second = torch.where(ours, best, first), torch.where(ours, worst, second)
    rows = torch.arange(rewards.shape[1])
    # Of equal rewards the first response counts as the better one.
    first_wins = rewards[member, rows, first] >= rewards[member, rows, second]
    member = torch.where(ours, member, torch.from_numpy(selection.member))
    return MixedPairs(first.numpy(), second.numpy(), member.numpy(), first_wins.numpy())
