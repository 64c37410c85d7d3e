"""The tier's runs: the bundled model, prompts and labeller; short where there is no GPU."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.language_models.methods import HEADLINE
from benchmarks.language_models.tier import Tier

# As in the recipe `sea_tldr.yaml`.
POLICY_LR = 2e-6
BETA = 0.1
# One GPU, halved between sampling and training; written without one at hand, so never run there.
_GPU = {
    "prompts_per_round": 128,
    "num_gpus_per_env_runner": 0.5,
    "num_gpus_per_train_worker": 0.5,
    "sampler_config": {"gpu_memory_utilization": 0.4},
}
_CPU = {"prompts_per_round": 16}


def run_config(seed: int) -> dict[str, Any]:
    """The configuration of a run, as in a recipe, without its method and budget.

    Args:
        seed: Of the run. The labeller's reward is the same for all.
    """
    return {
        "env": "text_duel/TLDR-v0",
        "env_config": {
            "prompts": "tldr_mini",
            "oracle": "embedding",
            "labels": "bradley_terry",
        },
        "seed": seed,
        "policy_model": "smollm2-135m-instruct",
        "max_new_tokens": 32,
        "temperature": 0.7,
        "num_candidates": 8,
        "policy_lr": POLICY_LR,
        "beta": BETA,
        "lr_schedule": "constant",
        "train_precision": "fp32",
        "measure_candidate_scores": True,
        "evaluation_interval": 4,
    } | (_GPU if torch.cuda.is_available() else _CPU)


TIER = Tier(
    name="smollm2",
    title="SmolLM2 tier",
    queries=5000 if torch.cuda.is_available() else 256,
    methods=HEADLINE if torch.cuda.is_available() else HEADLINE[:3],
    at_once=1,
    prepare=lambda: run_config,
)
