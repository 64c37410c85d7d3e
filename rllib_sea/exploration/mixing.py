"""Mixed preference learning: which prompts are asked about, which are labelled by the ERM.

SEA, section 4.2.3 and Algorithm 2, line 6: with probability gamma a prompt's duel goes to
the oracle; otherwise the pair is labelled by a randomly drawn ensemble member. A synthetic
pair is no query, is never shown to the oracle and never enters the ERM's replay.

Beside that: labels by all members at once, and pairs that are dropped. A drawn member's label is
right or wrong as a whole; the mean probability is 1/2 where members contradict each other, and the
policy then learns little (soft targets against over-optimisation: reward-model distillation, arXiv
2405.19316; consistency-regularised self-rewarding, arXiv 2410.12735).
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
)
from rllib_sea.exploration.bounds import centred
from rllib_sea.settings.duels import Duels, Gamma

SELECTED_PAIR, BEST_VS_WORST, BOUNDS = "selected_pair", "best_vs_worst", "bounds"
SYNTHETIC_PAIRS = (SELECTED_PAIR, BEST_VS_WORST, BOUNDS)
HARD, SOFT = "hard", "soft"
SYNTHETIC_LABELS = (HARD, SOFT)
# Spreads by which `bounds` doubts a reward.
CONFIDENCE = 1.0
# Why the ERM does not label a pair.
DISAGREEMENT, CUT_WINNER = "disagreement", "cut_winner"


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
    low: torch.Tensor, high: torch.Tensor, texts: torch.Tensor, may_win: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The candidate with the highest lower bound, and that of another text with the lowest upper.

    With both bounds a drawn member's rewards these are its best and its worst, the authors' code's
    choice.

    Args:
        low: (B, M) lower bounds of rewards.
        high: (B, M) upper bounds.
        texts: (B, M) text identities.
        may_win: (B, M) bool, which candidates may be the best; in a row of False all may.

    Returns:
        Two (B,) index tensors.
    """
    may_win = may_win | ~may_win.any(dim=1, keepdim=True)
    best = low.masked_fill(~may_win, -torch.inf).argmax(dim=1)
    worst = argmax_of_other_text(-high, texts, best)
    # Of copies of one text the first is taken, as in strategies.
    copies = (texts == texts.gather(1, best[:, None])) & may_win
    return copies.int().argmax(dim=1), first_copy(texts, worst)


def pessimistic_bounds(rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``mu - k s`` and ``mu + k s`` over members, of centred rewards.

    The candidate with the highest first bound against that with the lowest second is DeltaUCB's
    pair (arXiv 2603.09692) with -k for its confidence, and wins by the mean, too; if one candidate
    has both (all others are in more doubt), its rival is the next lowest. Optimism is for pairs
    that are asked about: the oracle corrects it. Nobody corrects the ERM's own label, so doubt
    counts against it, as in the objectives that keep policies from exploiting what an ensemble of
    reward models does not know (arXiv 2310.02743).

    Args:
        rewards: (K, B, M).

    Returns:
        Two (B, M) tensors.
    """
    relative = centred(rewards)
    mean, spread = relative.mean(dim=0), CONFIDENCE * relative.std(dim=0, unbiased=False)
    return mean - spread, mean + spread


def win_share(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The members' mean probability that the first response beats the second.

    Args:
        first: (K, B) rewards of the first responses.
        second: (K, B) of the second ones.

    Returns:
        (B,) float64.
    """
    return torch.sigmoid(first.double() - second.double()).mean(dim=0)


def agreement(first: torch.Tensor, second: torch.Tensor, first_wins: torch.Tensor) -> torch.Tensor:
    """The share of members that strictly prefer the winner.

    Args:
        first: (K, B) rewards of the first responses.
        second: (K, B) of the second ones.
        first_wins: (B,) bool.

    Returns:
        (B,) float64, multiples of 1 / K.
    """
    agrees = torch.where(first_wins, first > second, first < second)
    return agrees.sum(dim=0).double() / len(first)


@dataclass(frozen=True, slots=True)
class MixedPairs:
    """A round's pairs, those that the ERM labels among them.

    Attributes:
        first: (B,) index of the first response.
        second: (B,) index of the second response.
        member: (B,) the member that chose or labelled a pair of the ERM's; the one drawn for the
            first response of another, -1 if none was.
        preference: (B,) the labels of the synthetic pairs: how probably the first response is
            preferred, in [0, 1]; means nothing for real ones.
        dropped: Why a synthetic pair is not learned from; None if it is, and for real pairs.
        audited: (B,) bool, whether a real pair is one that the ERM would have labelled.
    """

    first: np.ndarray
    second: np.ndarray
    member: np.ndarray
    preference: np.ndarray
    dropped: tuple[str | None, ...]
    audited: np.ndarray


def mix(
    selection: Selection,
    proposals: Proposals,
    keys: Duels,
    *,
    synthetic: Sequence[bool],
    audited: Sequence[bool],
    rngs: Sequence[np.random.Generator],
) -> MixedPairs:
    """Takes the ERM's pairs in the place of the strategy's, and labels them.

    A pair that the ERM does not label is dropped if it is synthetic; if it was to be audited, the
    strategy's is asked about instead.

    Args:
        selection: The strategy's pairs.
        proposals: What they were selected from.
        keys: The pair is ``synthetic_pair``: that of the strategy, as Algorithm 2 reads; a
            drawn member's best and worst candidate, as in the authors' code; or by
            :func:`pessimistic_bounds`. Its label is ``synthetic_labels``: of one member, of equal
            rewards for the first response, or :func:`win_share`. ``synthetic_agreement`` and
            ``synthetic_cut_wins`` say which pairs are dropped.
        synthetic: B times whether the ERM labels.
        audited: B times whether the oracle is asked about the pair that the ERM would label.
        rngs: B generators.
    """
    rewards, texts = proposals.rewards, proposals.texts
    may_win = proposals.finished | keys.synthetic_cut_wins
    member = draw_members(rewards.shape[0], rngs)
    rows = torch.arange(rewards.shape[1])
    first, second = torch.from_numpy(selection.first), torch.from_numpy(selection.second)
    if keys.synthetic_pair != SELECTED_PAIR:
        low = high = rewards[member, rows]
        if keys.synthetic_pair == BOUNDS:
            low, high = pessimistic_bounds(rewards)
        first, second = best_and_worst(low, high, texts, may_win)

    of_first, of_second = rewards[:, rows, first], rewards[:, rows, second]  # (K, B)
    if keys.synthetic_labels == SOFT:
        preference = win_share(of_first, of_second)
    elif keys.synthetic_pair == BOUNDS:
        preference = ((of_first - of_second).mean(dim=0) >= 0).double()
    else:
        preference = (of_first[member, rows] >= of_second[member, rows]).double()
    first_wins = preference >= 0.5
    winner = torch.where(first_wins, first, second)
    cut = ~may_win[rows, winner]
    agreed = agreement(of_first, of_second, first_wins) >= keys.synthetic_agreement
    reasons = [
        CUT_WINNER if is_cut else None if enough else DISAGREEMENT
        for is_cut, enough in zip(cut.tolist(), agreed.tolist(), strict=True)
    ]

    is_audited = torch.tensor(audited) & ~torch.tensor(synthetic) & ~cut & agreed
    taken = torch.tensor(synthetic) | is_audited
    of_one_member = keys.synthetic_pair == BEST_VS_WORST or (
        keys.synthetic_pair == SELECTED_PAIR and keys.synthetic_labels == HARD
    )
    own_member = member if of_one_member else torch.full_like(member, -1)
    return MixedPairs(
        first=torch.where(taken, first, torch.from_numpy(selection.first)).numpy(),
        second=torch.where(taken, second, torch.from_numpy(selection.second)).numpy(),
        member=torch.where(taken, own_member, torch.from_numpy(selection.member)).numpy(),
        preference=preference.numpy(),
        dropped=tuple(
            reason if is_ours else None for reason, is_ours in zip(reasons, synthetic, strict=True)
        ),
        audited=is_audited.numpy(),
    )
