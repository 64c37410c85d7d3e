"""The tier's runs: a decoder that is fitted here, openings of sentences, a reward of words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.bandit.methods import RECIPE
from studies.language_models.methods import EARLY, METHODS
from studies.language_models.tier import Tier
from studies.tiny_lm.decoder import ENCODER, PROMPTS, fitted_decoder

# Chosen by looking at passive alone, on seeds that are in no result; see the README.
POLICY_LR = 2e-4
PROMPTS_PER_ROUND = 128
BETA = 0.1


def run_config(decoder: Path, seed: int) -> dict[str, Any]:
    """The configuration of a run, as in a recipe, without its method and budget.

    Args:
        decoder: Folder of :func:`studies.tiny_lm.decoder.fitted_decoder`.
        seed: Of the run, and of its world: the hidden reward.
    """
    return {
        "env": "text_duel/TLDR-v0",
        "env_config": {
            "prompts": str(decoder / PROMPTS),
            "columns": {"reference": "reference"},
            "template": "{post}",
            "oracle": "studies.tiny_lm.reward:WordNetworkOracle",
            "oracle_config": {"seed": seed},
            "labels": "bradley_terry",
        },
        "seed": seed,
        "policy_model": str(decoder),
        "sampler": "vllm",
        "sampler_config": {"kv_cache_gib": 1, "max_num_seqs": 512},
        "max_new_tokens": 16,
        "temperature": 1.0,
        "prompts_per_round": PROMPTS_PER_ROUND,
        "num_candidates": 8,
        "erm_encoder": str(decoder / ENCODER),
        "erm_sees_end": False,  # the hidden reward knows words alone
        "policy_lr": POLICY_LR,
        "beta": BETA,
        "lr_schedule": "constant",
        "train_precision": "fp32",
        "policy_minibatch_size": 64,
        "measure_online_win_rate": False,
        "measure_candidate_scores": True,
        "evaluation_interval": 2,
        "evaluation_kl_prompts": 64,
        "num_threads": 1,
        "num_env_runners": 0,  # the same numbers as with processes of their own, in less time
        "num_train_workers": 0,
    }


def _prepare() -> Callable[[int], dict[str, Any]]:
    decoder = fitted_decoder()
    return lambda seed: run_config(decoder, seed)


TIER = Tier(
    name="tiny_lm",
    title="Tiny-language-model tier",
    queries=5000,
    prompts_per_round=PROMPTS_PER_ROUND,
    methods=METHODS,
    # With one thread each: more runs per hour than one after another with two threads, since
    # much of a round is the plain Python of engines and actors.
    at_once=2,
    prepare=_prepare,
    rates={
        "best": {
            "passive": 8e-4,
            "passive, 64 a round": 8e-4,
            "passive, replay 1": 4e-4,
            "bai_ts": 8e-4,
            "bai_ts, replay 1": 8e-4,
            "random": 8e-4,  # not tried at several: BAI-TS's, so that only the pairs differ
            "random, replay 1": 8e-4,
            f"bai_ts+mix, {RECIPE}, from 256": 8e-4,
            f"bai_ts+mix, gamma 0.5, {EARLY}": 1.6e-3,
        },
        "careful": {
            "passive": 4e-4,
            "passive, 64 a round": 4e-4,
            "passive, replay 1": 4e-4,
            # Small rounds, tried on seed 100 alone.
            "passive, 16 a round": 2e-4,
            f"bai_ts+mix, {RECIPE}, from 256, 32 a round": 2e-4,
            "bai_ts": 4e-4,  # like the next not tried at several: passive's
            "random": 4e-4,
            f"bai_ts+mix, {RECIPE}, from 256": 4e-4,
            f"bai_ts+mix, gamma 0.5, {EARLY}": 1.6e-3,
            # Plain reinforcement learning from a reward model; not tried at several either.
            f"random+mix, gamma 0.5, {EARLY}, K 1": 1.6e-3,
        },
    },
)
