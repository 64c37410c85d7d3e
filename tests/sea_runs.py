"""Runs of the whole algorithm with a tiny random model, for tests of several files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rllib_sea import SEA, SEAConfig

BUDGET = 21


def tiny_config(policy: Path, **changes: Any) -> SEAConfig:
    """Rounds of 8 prompts, 4 candidates of 12 tokens; a label is about the number of words."""
    settings: dict[str, Any] = {
        "env_config": {"prompts": "tldr_mini", "oracle": "length", "oracle_config": {"target": 3}},
        "policy_model": str(policy),
        "sampler": "transformers",
        "sampler_config": {"dtype": "float32"},
        "max_new_tokens": 12,
        "temperature": 1.0,
        "prompts_per_round": 8,
        "num_candidates": 4,
        "query_budget": BUDGET,
        "ensemble_size": 3,
        "policy_lr": 1e-3,
        "train_precision": "fp32",
        "num_threads": 1,
        "evaluation_num_prompts": 6,
        "evaluation_interval": 2,
        "seed": 3,
    }
    return SEAConfig.from_user_dict(settings | changes)


def run_to_the_end(algorithm: SEA) -> list[dict[str, Any]]:
    """All results of a run with a budget."""
    results = []
    while not results or not results[-1]["done"]:
        results.append(algorithm.train())
        assert len(results) < 20
    return results


def curve(results: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    """What must be the same in two equal runs."""
    return [
        (r["num_oracle_queries"], r["policy"]["loss"], r["policy"]["grad_norm"]) for r in results
    ]
