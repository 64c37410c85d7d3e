"""Runs of the whole algorithm with a tiny random model, for tests of several files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rllib_sea import SEA, SEAConfig
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.preference_log.records import LogEntry

BUDGET = 21
# All of a run but the labeller is in the test's process unless the test is about processes, which
# take twenty seconds to start: the numbers are the same to the bit.
IN_PROCESS = {"num_env_runners": 0, "num_train_workers": 0}
IN_PROCESSES = {"num_env_runners": 1, "num_train_workers": 1}


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
        "gamma": 1.0,
        "ensemble_size": 3,
        "erm_encoder": "policy",  # in a tenth of the default one's time
        "policy_lr": 1e-3,
        "train_precision": "fp32",
        "num_threads": 1,
        **IN_PROCESS,
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


def measured(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All that rounds counted and computed, but for the seconds: for runs equal to the bit."""
    counts = ("round", "num_oracle_queries", "num_synthetic_pairs", "num_prompts_drawn")
    groups = ("duels", "reward_model", "policy")
    return [{key: result[key] for key in (*counts, "policy_steps", *groups)} for result in results]


def asked(log: Iterable[LogEntry]) -> list[tuple[Any, ...]]:
    """A log's questions, to the last log-probability, and their answers; without the times."""
    return [
        (
            dataclasses.astuple(entry.question),
            [(given.rater, dataclasses.astuple(given.verdict)) for given in entry.verdicts],
            entry.label,
            entry.learned_in,
        )
        for entry in log
    ]


def restore_beside(algorithm: SEA, checkpoint: Path, folder: Path) -> None:
    """Takes a running Algorithm back to a checkpoint, with the checkpoint's copy of the log.

    What a checkpoint lacks keeps the value of a later round, so that the rounds after it differ.

    Args:
        algorithm: Any Algorithm of the checkpoint's configuration.
        checkpoint: Its.
        folder: Gets the new log. The questions after the checkpoint are not in it.
    """
    algorithm.labelling.close()
    algorithm.make_parts(folder / LOG_FILE)
    algorithm.restore_from_path(checkpoint)
