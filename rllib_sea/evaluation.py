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

from rllib_sea.duels.rounds import EvaluatedPrompt, Outcome
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
    evaluated = algorithm.evaluate_held_out()
    results = summarise(evaluated) | {"seconds": time.perf_counter() - start}
    algorithm.record_evaluation(evaluated, results)
    logger = MetricsLogger(root=False)
    logger.log_dict(results, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=EVALUATION_RESULTS)
    return results, len(evaluated), len(evaluated)


def summarise(evaluated: Sequence[EvaluatedPrompt]) -> dict[str, float]:
    """The metrics of an evaluation; see docs/metrics.md for their meaning.

    Args:
        evaluated: The held-out prompts, at least one.

    Returns:
        Flat metrics. Those against references and of scores stand there only where the
        prompts have references and the oracle has scores; those of the best of N and of the
        KL divergence only where they were asked for.
    """
    results: dict[str, float] = {"num_prompts": float(len(evaluated))}
    results |= _outcomes([prompt.greedy for prompt in evaluated])
    initial_scores = [p.initial_score for p in evaluated if not math.isnan(p.initial_score)]
    if initial_scores:
        results |= _with_interval("initial_mean_score", mean_estimate(initial_scores))
    best = [prompt.best_of_n for prompt in evaluated if prompt.best_of_n is not None]
    if best:
        results |= {f"best_of_n_{name}": value for name, value in _outcomes(best).items()}
    kl = [prompt.kl for prompt in evaluated if not math.isnan(prompt.kl)]
    if kl:
        results |= _with_interval("kl", mean_estimate(kl))
    return results


def _outcomes(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Win rates, scores and lengths of one response a prompt."""
    results: dict[str, float] = {}
    for other in ("initial", "reference"):
        wins = [getattr(outcome, f"win_vs_{other}") for outcome in outcomes]
        wins = [p for p in wins if not math.isnan(p)]
        if wins:
            results |= _with_interval(f"win_rate_vs_{other}", hard_win_rate(wins))
            results |= _with_interval(f"win_rate_vs_{other}_soft", mean_estimate(wins))
    scores = [outcome.score for outcome in outcomes if not math.isnan(outcome.score)]
    if scores:
        results |= _with_interval("mean_score", mean_estimate(scores))
    results["response_length"] = float(np.mean([outcome.num_tokens for outcome in outcomes]))
    results["finished_share"] = float(np.mean([outcome.finished for outcome in outcomes]))
    return results


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
