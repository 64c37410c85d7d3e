"""The tier's runs: those of the recipe `sea_tldr.yaml`; with larger rounds if there is a GPU."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from typing import Any

import torch

from studies.bandit.methods import RECIPE
from studies.language_models.methods import EARLY_OF_SMALL_ROUNDS, HEADLINE
from studies.language_models.tier import Tier

# As in the recipe.
POLICY_LR = 6e-6
BETA = 0.1
# On a GPU so many runs share it and the cores. A run takes up to 35 GB: of an H200's 141 GB
# four left nothing, and were no faster than three.
_RUNS_PER_GPU = 2
# A GPU machine may lack vLLM's CUDA build, with which this has never been run. Its engine's memory
# is a share of the whole card's.
_SAMPLING: dict[str, Any] = (
    {"sampler": "vllm", "sampler_config": {"gpu_memory_utilization": 0.4 / _RUNS_PER_GPU}}
    if importlib.util.find_spec("vllm")
    else {"sampler": "transformers", "sampler_config": {"batch_size": 64}}
)
_GPU = _SAMPLING | {
    "prompts_per_round": 128,
    "policy_minibatch_size": 32,
    "num_gpus_per_env_runner": 0.5 / _RUNS_PER_GPU,
    "num_gpus_per_train_worker": 0.5 / _RUNS_PER_GPU,
    "num_threads": max(1, len(os.sched_getaffinity(0)) // _RUNS_PER_GPU),
    "evaluation_interval": 4,
}
_CPU: dict[str, Any] = {
    "prompts_per_round": 16,
    # All eight candidates of a prompt in one row.
    "policy_minibatch_size": 4,
    "num_env_runners": 0,
    "num_train_workers": 0,
    "evaluation_interval": 8,
}


def run_config(seed: int, *, on_gpu: bool) -> dict[str, Any]:
    """The configuration of a run, as in the recipe, without its method and budget.

    Args:
        seed: Of the run. The labeller's reward is the same for all.
        on_gpu: Larger rounds, on a share of a GPU.
    """
    return {
        "env": "text_duel/TLDR-v0",
        "env_config": {
            "prompts": "tldr_mini",
            "oracle": "reader",
            "labels": "bradley_terry",
        },
        "seed": seed,
        "policy_model": "smollm2-135m-instruct",
        "max_new_tokens": 48,
        "temperature": 0.7,
        "num_candidates": 8,
        "policy_lr": POLICY_LR,
        "beta": BETA,
        "lr_schedule": "constant",
        "train_precision": "fp32",
        "measure_online_win_rate": False,
        "measure_candidate_scores": True,
        # 64 prompts: greedy responses alone would leave an interval of 0.06 to either side.
        "evaluation_samples": 4,
        "evaluation_kl_prompts": 64,
    } | (_GPU if on_gpu else _CPU)


_ON_GPU = torch.cuda.is_available()
TIER = Tier(
    name="smollm2",
    title="SmolLM2 tier",
    queries=5000 if _ON_GPU else 512,
    prompts_per_round=(_GPU if _ON_GPU else _CPU)["prompts_per_round"],
    methods=HEADLINE
    if _ON_GPU
    else (
        "passive",
        "passive, 8 a round",
        f"bai_ts+mix, {RECIPE}, from 32",
        f"bai_ts+mix, gamma 0.5, {EARLY_OF_SMALL_ROUNDS}",
    ),
    at_once=_RUNS_PER_GPU if _ON_GPU else 1,
    prepare=lambda: partial(run_config, on_gpu=_ON_GPU),
    win_rate="sampled_win_rate_vs_initial_soft",
    kl=2.5,
)
