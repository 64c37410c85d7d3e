"""A round's metrics: their names, and their copies on Ray's dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.util.metrics import Gauge

from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import Measurement, Proposal
from rllib_sea.duels.selection import SelectedDuel
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


def duel_metrics(
    proposals: Sequence[Proposal], selected: Sequence[SelectedDuel], duels: Sequence[Duel]
) -> dict[str, float]:
    """What a round's candidates and duels look like.

    Args:
        proposals: All of the round.
        selected: The selected pairs.
        duels: The same, labelled.

    Returns:
        Metrics of the group ``duels``. Rates whose denominator is 0 are left out.
    """
    candidates = [candidate for proposal in proposals for candidate in proposal.candidates]
    metrics = {}
    if candidates:
        metrics["finished_share"] = float(
            np.mean([candidate.finish_reason == "stop" for candidate in candidates])
        )
        metrics["response_length"] = float(
            np.mean([len(candidate.token_ids) for candidate in candidates])
        )
    if selected:
        metrics["clash_rate"] = float(np.mean([duel.clash for duel in selected]))
    scores = [score for duel in duels for score in duel.scores if not math.isnan(score)]
    if scores:
        metrics["mean_score"] = float(np.mean(scores))
    return metrics


def skip_metrics(skipped: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """How many of a round's prompts gave no duel, in all and by the reason.

    Args:
        skipped: Prompt ids by a reason of :data:`rllib_sea.duels.selection.SKIP_REASONS`.
    """
    counts = {f"num_skipped_{reason}": float(len(ids)) for reason, ids in skipped.items()}
    return {"num_skipped": sum(counts.values())} | counts


def oracle_metrics(selected: Sequence[SelectedDuel], measurement: Measurement) -> dict[str, float]:
    """What the oracle said about a round beyond its labels.

    Args:
        selected: The round's pairs.
        measurement: The oracle's answers; its ``pool_scores`` one per pair, or none;
            NaN where it had none.

    Returns:
        Online win rates over real duels against the references, if there are any; with
        pool scores the immediate regret of real duels and the accuracy of the ERM's labels.
        Immediate regret is ``max_b r(x, b) - (r(x, y) + r(x, y')) / 2`` (SEA, section 2),
        with the best of the prompt's M candidates in the place of the best response.
    """
    metrics = {}
    wins = [p for p in measurement.online_wins if not math.isnan(p)]
    if wins:
        metrics["online_win_rate"] = hard_win_rate(wins).mean
        metrics["online_win_rate_soft"] = mean_estimate(wins).mean
    regrets, right = [], []
    for duel, scores in zip(selected, measurement.pool_scores, strict=False):
        first, second = scores[duel.first], scores[duel.second]
        if math.isnan(scores.sum()):  # the oracle has none of some
            continue
        if not duel.synthetic:
            regrets.append(float(scores.max() - (first + second) / 2))
        elif first != second:
            right.append((first > second) == (duel.own_preference >= 0.5))
    if regrets:
        metrics["pool_regret"] = float(np.mean(regrets))
        metrics["sum_pool_regret"] = float(np.sum(regrets))
    if right:
        metrics["synthetic_label_accuracy"] = float(np.mean(right))
    return metrics


def of_this_round(
    result: Mapping[str, Any], evaluation: Mapping[str, float] | None
) -> dict[str, Any]:
    """A result of RLlib's with what was measured in its round, and nothing else.

    RLlib repeats an evaluation in the rounds after it, and gives NaN for metrics that a round did
    not have.

    Args:
        result: RLlib's.
        evaluation: The round's, if there was one.
    """
    groups = {
        group: {k: float(v) for k, v in result.get(group, {}).items() if not math.isnan(v)}
        for group in ("duels", "reward_model", "policy", "seconds")
    }
    kept = {key: value for key, value in result.items() if key != EVALUATION_RESULTS}
    return kept | groups | ({EVALUATION_RESULTS: evaluation} if evaluation else {})


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
