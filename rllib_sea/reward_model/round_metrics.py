"""How the ERM does on a round's labels before it learns from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rllib_sea.duels.audit import foreseen
from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import Proposal
from rllib_sea.exploration import text_identities
from rllib_sea.reward_model.health import (
    CalibrationWindow,
    argmax_agreement,
    member_disagreement,
    win_probabilities,
)


def reward_model_metrics(
    proposals: Sequence[Proposal], duels: Sequence[Duel], calibration: CalibrationWindow
) -> dict[str, float]:
    """How the ERM, before it learns from them, predicts a round's oracle labels.

    Args:
        proposals: All of the round.
        duels: The round's real duels; ties, which no side was right about, count for
            ``member_disagreement`` alone.
        calibration: Earlier predictions; this round's are added to it.

    Returns:
        Metrics of the group ``reward_model``; those of labels only if there are any, those of
        several members only if the ensemble has them.
    """
    metrics = {}
    agreement = _argmax_agreement(proposals)
    if not math.isnan(agreement):
        metrics["argmax_agreement"] = agreement
    if not duels:
        return metrics
    rewards = np.stack([duel.member_rewards for duel in duels])  # (N, 2, K)
    disagreement = member_disagreement(rewards)
    if not math.isnan(disagreement):
        metrics["member_disagreement"] = disagreement
    decided = np.array([not duel.label.is_tie for duel in duels])
    if not decided.any():
        return metrics
    rewards = rewards[decided]
    first_wins = np.array([duel.first_wins for duel in duels])[decided]
    probabilities = win_probabilities(rewards)
    calibration.add(probabilities.mean(axis=1), first_wins)
    metrics["accuracy_on_new_labels"] = float(foreseen(rewards, first_wins).mean())
    metrics["probability_of_new_labels"] = float(
        np.where(first_wins[:, None], probabilities, 1.0 - probabilities).mean()
    )
    metrics["calibration_error"] = calibration.error()
    return metrics


def _argmax_agreement(proposals: Sequence[Proposal]) -> float:
    if not proposals or len({len(proposal.candidates) for proposal in proposals}) > 1:
        return math.nan
    texts = text_identities([[c.text for c in proposal.candidates] for proposal in proposals])
    rewards = np.stack([proposal.rewards for proposal in proposals], axis=1)
    return argmax_agreement(rewards, texts.numpy())
