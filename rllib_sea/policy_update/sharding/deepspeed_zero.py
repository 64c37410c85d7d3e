"""DeepSpeed's ZeRO: optimizer, gradients and (stage 3) parameters are split over workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from rllib_sea.policy.model_folder import weights_of
from rllib_sea.policy_update.sharding.base import rank

if TYPE_CHECKING:
    from rllib_sea.policy_update.config import PolicyTrainConfig
    from rllib_sea.policy_update.logprobs import ResponseLogits


class DeepSpeedStrategy:
    """DeepSpeed's ZeRO: optimizer, gradients and (stage 3) parameters split over workers.

    Args:
        scorer: The policy.
        config: The run's configuration.
    """

    _TAG = "policy"

    def __init__(self, scorer: ResponseLogits, config: PolicyTrainConfig) -> None:
        import deepspeed

        # On a CPU DeepSpeed would compile a kernel of its own for sums over workers, which takes
        # 20 s and a compiler, and each user's first run of a version. Without it gloo adds up.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self._model = scorer.model
        self._stage = config.zero_stage
        optimizer = {
            "lr": config.policy_lr,
            "betas": list(config.policy_betas),
            "eps": 1e-8,
            "weight_decay": config.policy_weight_decay,
            "torch_adam": True,
            "adam_w_mode": True,
        }
        self._engine, _, _, _ = deepspeed.initialize(
            model=scorer,
            config={
                "train_micro_batch_size_per_gpu": config.policy_minibatch_size,
                "gradient_accumulation_steps": 1,
                "gradient_clipping": config.max_grad_norm,
                "optimizer": {"type": "AdamW", "params": optimizer},
                "zero_optimization": {"stage": config.zero_stage},
                # No precision is named here: weights and the sum of gradients over workers
                # stay in fp32, as with DDP, and the scorer enters autocast by itself
                # (DeepSpeed's `torch_autocast` would sum gradients in bf16).
                "zero_allow_untested_optimizer": True,
                "steps_per_print": 10**9,
            },
        )
        self.module: nn.Module = self._engine

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        self._engine.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss)

    def step(self, lr: float) -> float:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        if not self._engine.was_step_applied():
            return math.nan  # stage 3 then tells the norm of the step before
        return float(self._engine.get_global_grad_norm())

    def weights(self) -> dict[str, torch.Tensor]:
        if self._stage < 3:
            return weights_of(self._model)
        import deepspeed

        whole: dict[str, torch.Tensor] = {}
        for name, parameter in self._model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter]):
                if rank() == 0:
                    whole[name] = parameter.detach().clone()
        return whole

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder / "deepspeed"), tag=self._TAG)

    def load(self, folder: Path) -> None:
        self._engine.load_checkpoint(str(folder / "deepspeed"), tag=self._TAG)
