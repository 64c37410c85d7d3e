"""The configuration of the policy's Ray Train run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rllib_sea.policy.precision import AUTO
from rllib_sea.policy_update.objectives.losses import check_loss
from rllib_sea.policy_update.objectives.optimism import check_optimism
from rllib_sea.policy_update.schedule import SCHEDULES
from rllib_sea.policy_update.sharding import SHARDING
from rllib_sea.preference_models import DROP, check_ties
from rllib_sea.settings import checks as check

PRECISIONS = (AUTO, "bf16", "fp32")


@dataclass(frozen=True, slots=True)
class PolicyTrainConfig:
    """What the workers need; the names in brackets are SEAConfig's.

    Attributes:
        loss: A name of :data:`rllib_sea.policy_update.objectives.losses.LOSSES`.
        loss_config: The loss's options, where they differ from their defaults.
        beta: Strength of the pull towards the reference policy; each loss has its own scale
            (docs/losses.md).
        ties: What a tie teaches, one of :data:`rllib_sea.preference_models.TIES`.
        tie_margin: The number of a model of ties, None for the others.
        optimism: A name of :data:`rllib_sea.policy_update.objectives.optimism.OPTIMISM`, or None.
        optimism_alpha: The weight of that term.
        lr: AdamW's peak learning rate (``policy_lr``).
        betas: AdamW's betas (``policy_betas``).
        weight_decay: AdamW's weight decay (``policy_weight_decay``).
        schedule: ``"cosine"`` or ``"constant"`` (``lr_schedule``).
        warmup_ratio: Share of the updates over which the rate rises.
        total_steps: Expected updates of the run; None if it has no end.
        max_grad_norm: Gradients are clipped to this norm.
        minibatch_size: Pairs in one forward pass of one worker.
        precision: ``"bf16"`` (autocast over fp32 weights), ``"fp32"``, or ``"auto"``: bf16 where
            the worker's hardware multiplies in it (``train_precision``).
        strategy: ``"ddp"`` or ``"deepspeed"`` (``train_strategy``).
        zero_stage: DeepSpeed's ZeRO stage.
        num_workers: Ray Train workers (``num_train_workers``).
        cpus_per_worker: Logical CPUs of each.
        gpus_per_worker: GPUs of each.
        threads_per_worker: Torch threads of each.
        max_failures: How many worker deaths are survived (``max_train_failures``).
        snapshot_every: Updates between snapshots; a worker that died goes on from the last one
            and repeats the updates since.
        seed: The run's seed.
        model_path: The initial policy's folder, which is also the reference policy's.
        storage_path: A folder for the run's own files, on storage that all workers share.
        probes: Tokens by which engines are audited, :func:`rllib_sea.policy.audit.probe_tokens`.
    """

    loss: str = "dpo"
    loss_config: Mapping[str, Any] = field(default_factory=dict)
    beta: float = 0.1
    ties: str = DROP
    tie_margin: float | None = None
    optimism: str | None = None
    optimism_alpha: float = 1e-5
    lr: float = 5e-7
    betas: Sequence[float] = (0.9, 0.95)
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_ratio: float = 0.02
    total_steps: int | None = None
    max_grad_norm: float = 1.0
    minibatch_size: int = 8
    precision: str = AUTO
    strategy: str = "ddp"
    zero_stage: int = 2
    num_workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    threads_per_worker: int = 1
    max_failures: int = 3
    snapshot_every: int = 10
    seed: int = 0
    model_path: str = ""
    storage_path: str = ""
    probes: tuple[tuple[int, ...], ...] = ()

    def validate(self) -> None:
        """Checks every value.

        Raises:
            ConfigError: One line with the key, the value and what was expected.
        """
        check_loss(self.loss, self.loss_config)
        check.check_number("beta", self.beta, open_low=True)
        check_ties(self.ties, self.tie_margin, self.loss)
        check_optimism(self.optimism, self.loss)
        check.check_number("optimism_alpha", self.optimism_alpha, open_low=True)
        check.check_number("policy_lr", self.lr, open_low=True)
        check.check_betas("policy_betas", self.betas)
        check.check_number("policy_weight_decay", self.weight_decay)
        check.check_choice("lr_schedule", self.schedule, SCHEDULES)
        check.check_number("warmup_ratio", self.warmup_ratio, 0.0, 1.0)
        check.check_number("max_grad_norm", self.max_grad_norm, open_low=True)
        check.check_int("policy_minibatch_size", self.minibatch_size, 1)
        check.check_choice("train_precision", self.precision, PRECISIONS)
        check.check_choice("train_strategy", self.strategy, SHARDING)
        check.check_int("num_train_workers", self.num_workers, 1)
        check.check_number("num_cpus_per_train_worker", self.cpus_per_worker)
        check.check_number("num_gpus_per_train_worker", self.gpus_per_worker)
        check.check_int("max_train_failures", self.max_failures, 0)
        check.check_int("zero_stage", self.zero_stage, 1)
        if self.zero_stage > 3:
            check.check_choice("zero_stage", str(self.zero_stage), ("1", "2", "3"))
