"""What is compared: the keys of every run, and those in which each method differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tiny_lm.decoder import ENCODER, PROMPTS

QUERIES = 5000
# As in the bandit tier: real labels alone for 1000 queries, 0.7 of the pairs afterwards.
GAMMA, WARM_UP = 0.7, 1000
# Chosen by looking at passive alone, on seeds that are in no result; see the README.
POLICY_LR = 2e-4
BETA = 0.1

_ACTIVE = (
    "bai_ts",
    "drts",
    "random",
    "ee_ts",
    "infomax",
    "delta_ucb",
    "uncertainty",
    "maxmin_lcb",
)
_MIXED = {"gamma": [[0, 1.0], [WARM_UP, 1.0], [WARM_UP + 1, GAMMA]]}


def _methods() -> dict[str, dict[str, Any]]:
    """In the order in which they are run: what the headline needs comes first."""
    passive = {"exploration_strategy": "passive"}
    mixed = {f"{name}+mix": {"exploration_strategy": name} | _MIXED for name in _ACTIVE}
    plain = {name: {"exploration_strategy": name} for name in _ACTIVE}
    xpo = {"exploration_strategy": "xpo"}
    return {
        "passive": passive,
        "bai_ts+mix": mixed.pop("bai_ts+mix"),
        "drts+mix": mixed.pop("drts+mix"),
        "random+mix": mixed.pop("random+mix"),
        "passive+mix": passive | _MIXED,
        "bai_ts": plain.pop("bai_ts"),
        "offline": passive | {"policy_sync_interval": None},
        "apl": {
            "exploration_strategy": "apl",
            "prompt_acquisition": "entropy",
            "prompt_pool_size": 256,
        },
        "xpo": xpo | {"optimism": "xpo", "optimism_alpha": 1e-5},
        "ee_ts+mix": mixed.pop("ee_ts+mix"),
        "drts": plain.pop("drts"),
        "random": plain.pop("random"),
        "iterative": passive | {"policy_sync_interval": 4},
        "selm": xpo | {"optimism": "selm", "optimism_alpha": 1e-3},
        **mixed,
        **plain,
    }


METHODS = _methods()


def run_config(decoder: Path, method: str, seed: int, queries: int) -> dict[str, Any]:
    """The configuration of a run, as in a recipe.

    Args:
        decoder: Folder of :func:`benchmarks.tiny_lm.decoder.fitted_decoder`.
        method: A name of :data:`METHODS`.
        seed: Of the run, and of its world: the hidden reward.
        queries: The budget.
    """
    return {
        "env": "text_duel/TLDR-v0",
        "env_config": {
            "prompts": str(decoder / PROMPTS),
            "columns": {"reference": None},
            "template": "{post}",
            "oracle": "benchmarks.tiny_lm.reward:WordNetworkOracle",
            "oracle_config": {"seed": seed},
            "labels": "bradley_terry",
        },
        "seed": seed,
        "policy_model": str(decoder),
        "sampler": "vllm",
        "sampler_config": {"kv_cache_gib": 1, "max_num_seqs": 512},
        "max_new_tokens": 16,
        "temperature": 1.0,
        "prompts_per_round": 128,
        "num_candidates": 8,
        "query_budget": queries,
        "erm_encoder": str(decoder / ENCODER),
        "policy_lr": POLICY_LR,
        "beta": BETA,
        "lr_schedule": "constant",
        "train_precision": "fp32",
        "policy_minibatch_size": 64,
        "measure_candidate_scores": True,
        "evaluation_interval": 2,
        "num_threads": 1,
    } | METHODS[method]
