"""A round's metrics: their names, and their copies on Ray's dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.util.metrics import Gauge

from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import RoundShare
from rllib_sea.statistics import hard_win_rate, mean_estimate

# Result key -> (name on the Prometheus port, description). Ray adds the prefix `ray_`.
DASHBOARD_METRICS = {
    "num_oracle_queries": ("sea_num_oracle_queries", "Training labels asked of the oracle."),
    "duels/online_win_rate": ("sea_online_win_rate", "Duelled responses against references."),
    "evaluation/win_rate_vs_initial": (
        "sea_win_rate_vs_initial",
        "Greedy win rate against the initial policy on held-out prompts.",
    ),
    "evaluation/mean_score": ("sea_mean_score", "Mean oracle score of greedy responses."),
    "reward_model/accuracy_on_new_labels": (
        "sea_erm_accuracy",
        "Share of a round's labels that the ERM's mean predicted before it saw them.",
    ),
    "policy/loss": ("sea_policy_loss", "Loss of the policy update."),
    "seconds/round": ("sea_round_seconds", "Wall-clock seconds of a round."),
}


def duel_metrics(shares: Sequence[RoundShare]) -> dict[str, float]:
    """What a round's duels look like.

    Args:
        shares: The round's shares, one or more.

    Returns:
        Metrics of the group ``duels``. Rates whose denominator is 0 are left out.
    """
    metrics = {
        "num_skipped": float(sum(len(share.skipped_prompt_ids) for share in shares)),
        "argmax_agreement": float(np.mean([share.argmax_agreement for share in shares])),
    }
    num_candidates = sum(share.num_candidates for share in shares)
    metrics["finished_share"] = sum(share.num_finished for share in shares) / num_candidates
    metrics["response_length"] = sum(share.num_tokens for share in shares) / num_candidates
    wins = [p for share in shares for p in share.online_wins]
    if wins:
        metrics["online_win_rate"] = hard_win_rate(wins).mean
        metrics["online_win_rate_soft"] = mean_estimate(wins).mean
    scores = [s for share in shares for duel in share.duels for s in duel.scores]
    scores = [score for score in scores if not math.isnan(score)]
    if scores:
        metrics["mean_score"] = float(np.mean(scores))
    return metrics


def reward_model_metrics(duels: Sequence[Duel]) -> dict[str, float]:
    """How the ERM, before it learns from them, predicts a round's oracle labels.

    Args:
        duels: The round's real duels.

    Returns:
        Accuracy of the mean reward, mean predicted probability of the label (averaged over
        members), and the members' standard deviation of the predicted probability.
        Empty without duels.
    """
    if not duels:
        return {}
    rewards = np.stack([duel.member_rewards for duel in duels])  # (N, 2, K)
    sign = np.where([duel.first_wins for duel in duels], 1.0, -1.0)
    margin = (rewards[:, 0] - rewards[:, 1]) * sign[:, None]  # (N, K), > 0 is right
    probability = 1.0 / (1.0 + np.exp(-margin))
    return {
        "accuracy_on_new_labels": float((margin.mean(axis=1) > 0).mean()),
        "probability_of_new_labels": float(probability.mean()),
        "member_disagreement": float(probability.std(axis=1).mean()),
    }


class DashboardMetrics:
    """Gauges for :data:`DASHBOARD_METRICS`: on Ray's dashboard and its Prometheus port.

    Args:
        run: The run's name, the gauges' only tag.
    """

    def __init__(self, run: str) -> None:
        self._gauges = {
            key: Gauge(name, description=description, tag_keys=("run",))
            for key, (name, description) in DASHBOARD_METRICS.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"run": run})

    def publish(self, result: Mapping[str, Any]) -> None:
        """Sets the gauges to a result's values; those it lacks keep theirs."""
        for key, gauge in self._gauges.items():
            value: Any = result
            for part in key.split("/"):
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, int | float | np.number) and math.isfinite(value):
                gauge.set(float(value))
