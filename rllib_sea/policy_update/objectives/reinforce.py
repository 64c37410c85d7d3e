"""REINFORCE on the ERM: the policy learns from all candidates; labels reach it through the ERM.

The signal is that of "Efficient Exploration at Scale" (arXiv 2603.17378): how probably a response
beats another, less 1/2. There it is that of one pair by one reward; here each candidate is held
against all others of its prompt, and the probability is the mean over the ensemble's members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError

REINFORCE = "reinforce"


@dataclass(frozen=True, kw_only=True)
class ReinforceOptions:
    """The options of ``loss: reinforce``.

    Attributes:
        min_labels: Labels that the ERM has learned from before the policy learns from it.
        nudge: Added to every advantage: raises the probability of all that was sampled (the
            paper's "affirmative nudge" against a late collapse; it publishes no value).
        anchor_decay: eta of the moving average of the policy that the KL term pulls to
            (:class:`rllib_sea.policy_update.anchor.Anchor`); 1: the reference policy, which stays.
        extremes: Of a prompt's candidates only so many are learned from, half of them the best and
            half the worst, which takes less computing (the paper's are 4, twice each); None: all.
    """

    min_labels: int = 256
    nudge: float = 0.0
    anchor_decay: float = 1.0
    extremes: int | None = None


def check_reinforce(
    *,
    min_labels: int = 256,
    nudge: float = 0.0,
    anchor_decay: float = 1.0,
    extremes: int | None = None,
) -> None:
    """Raises ConfigError for a bad value of an option."""
    check.check_int("loss_config: min_labels", min_labels, 0)
    check.check_int("loss_config: extremes", extremes, 2, optional=True)
    if extremes is not None and extremes % 2:
        raise ConfigError(f"loss_config: extremes: {extremes} is odd: half are best, half worst")
    check.check_number("loss_config: nudge", nudge)
    check.check_number("loss_config: anchor_decay", anchor_decay, 0.0, 1.0)


def advantages(rewards: np.ndarray, nudge: float = 0.0) -> np.ndarray:
    """``mean over j != i and members k of sigmoid(r_ki - r_kj), less 1/2, plus the nudge``.

    Without a nudge a prompt's advantages sum to 0: who wins is held against who loses, so that
    no baseline is needed.

    Args:
        rewards: (K, B, M) of K members for M >= 2 candidates of each of B prompts.
        nudge: See :class:`ReinforceOptions`.

    Returns:
        (B, M), in [-1/2, 1/2] plus the nudge.
    """
    difference = np.asarray(rewards, dtype=np.float64)
    difference = difference[..., :, None] - difference[..., None, :]  # (K, B, M, M)
    wins = 0.5 * np.tanh(0.5 * difference)  # sigmoid less 1/2; 0 against itself
    return wins.sum(axis=-1).mean(axis=0) / (rewards.shape[-1] - 1) + nudge


def extreme(advantage: np.ndarray, number: int | None) -> np.ndarray:
    """Which candidates of a prompt are learned from.

    Args:
        advantage: (M,).
        number: See :class:`ReinforceOptions`.

    Returns:
        Indices in ascending order: of the number / 2 highest and the number / 2 lowest, all if
        there are no more.
    """
    if number is None or number >= len(advantage):
        return np.arange(len(advantage))
    order = np.argsort(advantage, kind="stable")
    return np.sort(np.concatenate([order[: number // 2], order[-(number // 2) :]]))


def reinforce(
    log_probs: torch.Tensor, kl: torch.Tensor, advantage: torch.Tensor, beta: float
) -> torch.Tensor:
    """``-A log pi(y|x) + beta KL(pi || anchor)``.

    The gradient of its first term is REINFORCE's for responses that pi sampled; the second is the
    exact divergence of the next-token distributions along each response, no estimate of it.

    Args:
        log_probs: (S,) log pi(y|x), summed over tokens.
        kl: (S,) divergences from the anchor (the reference policy, or a moving average of the
            policy), summed over tokens, in nats.
        advantage: (S,).
        beta: Strength of the pull towards the anchor, at least 0.

    Returns:
        (S,) losses.
    """
    return -advantage * log_probs + beta * kl
