"""RLlib's own keys: those that SEA sets and checks, and those that mean nothing to it."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_sea.settings.checks import check_int, check_number
from rllib_sea.settings.declaration import key

# RLlib's keys that mean nothing to SEA, and what to set instead.
UNUSED_RLLIB_KEYS = {
    "lr": "policy_lr or erm_lr",
    "train_batch_size": "prompts_per_round",
    "train_batch_size_per_learner": "erm_minibatch_size",
    "minibatch_size": "policy_minibatch_size or erm_minibatch_size",
    "num_epochs": "erm_minibatches",
    "model": "policy_model",
    "exploration_config": "strategy_config",
    "lambda": "erm_lambda",
    "num_workers": "num_env_runners",
    "evaluation_config": "evaluation_split or held_out_share",
    "evaluation_duration": "evaluation_num_prompts",
    "evaluation_num_env_runners": "num_env_runners (they evaluate, too)",
}


@dataclass(kw_only=True, eq=False, repr=False)
class RLlibKeys:
    """RLlib's own keys that have a default and a check of SEA's, in RLlib's methods."""

    evaluation_interval: int | None = key(
        4,
        "Rounds between evaluations; the last round always has one. None: only that one.",
        check_int,
        1,
        optional=True,
    )
    num_env_runners: int = key(
        1,
        "Processes that sample, each with an engine. 0: the Algorithm's own samples.",
        check_int,
        0,
    )
    num_gpus_per_env_runner: float = key(0, "GPUs of each.", check_number)
    seed: int = key(0, "Of everything random.", check_int, 0)
