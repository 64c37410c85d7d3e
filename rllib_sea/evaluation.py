"""Evaluation on held-out prompts: greedy win rates and oracle scores.

Questions asked here are no queries: they are counted apart and nothing is learned from
the answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_sea.duels.rounds import EvaluatedResponse
from rllib_sea.statistics import Estimate, hard_win_rate, mean_estimate

if TYPE_CHECKING:
    from rllib_sea.sea import SEA


def evaluate(algorithm: SEA, _: Any = None) -> tuple[dict[str, Any], int, int]:
    """RLlib's ``custom_evaluation_function``: evaluates the current policy.

    Args:
        algorithm: The Algorithm, whose env runners answer.

    Returns:
        The results, and the number of prompts twice (RLlib's env and agent steps).
    """
    start = time.perf_counter()
    responses = algorithm.evaluate_held_out()
    results = summarise(responses) | {"seconds": time.perf_counter() - start}
    algorithm.record_evaluation(responses, results)
    logger = MetricsLogger(root=False)
    logger.log_dict(results, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=EVALUATION_RESULTS)
    return results, len(responses), len(responses)


def summarise(responses: Sequence[EvaluatedResponse]) -> dict[str, float]:
    """The metrics of an evaluation; see docs/metrics.md for their meaning.

    Args:
        responses: One a held-out prompt, at least one.

    Returns:
        Flat metrics. Those against references and of scores stand there only where the
        prompts have references and the oracle has scores.
    """
    results: dict[str, float] = {"num_prompts": float(len(responses))}

    def put(name: str, estimate: Estimate) -> None:
        results[name] = estimate.mean
        results[f"{name}_low"] = estimate.low
        results[f"{name}_high"] = estimate.high

    for other in ("initial", "reference"):
        wins = [getattr(response, f"win_vs_{other}") for response in responses]
        wins = [p for p in wins if not math.isnan(p)]
        if wins:
            put(f"win_rate_vs_{other}", hard_win_rate(wins))
            put(f"win_rate_vs_{other}_soft", mean_estimate(wins))
    scores = [response.score for response in responses if not math.isnan(response.score)]
    if scores:
        put("mean_score", mean_estimate(scores))
    initial_scores = [r.initial_score for r in responses if not math.isnan(r.initial_score)]
    if initial_scores:
        put("initial_mean_score", mean_estimate(initial_scores))
    results["response_length"] = float(np.mean([r.num_tokens for r in responses]))
    results["finished_share"] = float(np.mean([r.finished for r in responses]))
    return results
