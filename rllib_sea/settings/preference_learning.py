"""The keys of `SEAConfig.preference_learning()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rllib_sea.settings.checks import (
    check_betas,
    check_bool,
    check_choice,
    check_int,
    check_number,
)
from rllib_sea.settings.declaration import checked_elsewhere, key


def check_zero_stage(key: str, value: Any) -> None:
    """Raises ConfigError unless ``value`` is a ZeRO stage: 1, 2 or 3."""
    check_int(key, value, 1)
    if value > 3:
        check_choice(key, str(value), ("1", "2", "3"))


@dataclass(kw_only=True, eq=False, repr=False)
class PreferenceLearning:
    """Sets the direct optimizer and the Ray Train run."""

    update_policy: bool = key(
        True, "False: the policy stays as it is, only the ERM learns.", check_bool
    )
    loss: str = key("dpo", "A name in docs/losses.md.", checked_elsewhere)
    beta: float = key(
        0.1,
        "Strength of the pull towards the reference policy; each loss has its own scale.",
        check_number,
        open_low=True,
    )
    loss_config: dict[str, Any] = key(
        {}, "The loss's options, see docs/losses.md.", checked_elsewhere
    )
    ties: str = key(
        "drop",
        "What a tie teaches policy and ERM: nothing (`drop`); as much as a win and a loss of half "
        "the weight (`soft`); or what a model of ties says (`rao_kupper`, `davidson`): "
        "docs/losses.md#labels-in-doubt-weights-ties.",
        checked_elsewhere,
    )
    tie_margin: float | None = key(
        None, "The number of a model of ties; None for the others.", checked_elsewhere
    )
    optimism: str | None = key(
        None,
        "`xpo` or `selm`: a term beside the loss that keeps the policy exploring; it needs "
        "`exploration_strategy` xpo. None: no such term.",
        checked_elsewhere,
    )
    optimism_alpha: float = key(1e-5, "Weight of that term.", check_number, open_low=True)
    policy_replay: int = key(
        0,
        "Further steps per round, each on `prompts_per_round` pairs drawn from all that the oracle "
        "has labelled in this run, this round's included; never on pairs that the ERM labelled.",
        check_int,
        0,
    )
    policy_lr: float = key(5e-7, "AdamW's peak learning rate.", check_number, open_low=True)
    policy_betas: Sequence[float] = key((0.9, 0.95), "AdamW's betas.", check_betas)
    policy_weight_decay: float = key(0.0, "AdamW's weight decay.", check_number)
    lr_schedule: str = key(
        "cosine",
        "`cosine`: to a tenth of the peak at the end of the query budget, which must be given; or "
        "`constant`.",
        checked_elsewhere,
    )
    kl_target: float | None = key(
        None,
        "Divergence from the reference policy, in nats per response, that the policy may have "
        "reached at the end of the query budget, and on the way in proportion; above it the "
        "learning rate falls: docs/losses.md#a-target-for-the-divergence. None: no target.",
        check_number,
        open_low=True,
        optional=True,
    )
    warmup_ratio: float = key(
        0.02, "Share of the steps over which the rate rises from 0.", check_number, 0.0, 1.0
    )
    max_grad_norm: float = key(
        1.0, "Gradients are clipped to this norm.", check_number, open_low=True
    )
    policy_minibatch_size: int = key(
        8,
        "Pairs in one forward pass of one worker; never changes the result.",
        check_int,
        1,
    )
    train_precision: str = key(
        "auto",
        "`bf16`: autocast over fp32 weights; `fp32`; `auto`: bf16 if the workers' hardware "
        "multiplies in it, which CPUs without AVX-512 do not. Small rates need `fp32`: "
        "docs/performance.md#precision-decides-how-far-a-policy-goes.",
        checked_elsewhere,
    )
    train_strategy: str = key(
        "ddp", "`ddp`, or `deepspeed` (the extra of that name).", checked_elsewhere
    )
    zero_stage: int = key(2, "DeepSpeed's ZeRO stage, 1 to 3.", check_zero_stage)
    num_train_workers: int = key(
        1,
        "Ray Train workers. 0: the Algorithm's own process updates the policy, without Ray Train.",
        check_int,
        0,
    )
    num_cpus_per_train_worker: float = key(1, "Logical CPUs of each.", check_number)
    num_gpus_per_train_worker: float = key(0, "GPUs of each.", check_number)
    max_train_failures: int = key(3, "How often a dead training worker is replaced.", check_int, 0)
