"""Torch's DistributedDataParallel: every worker holds the whole model."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rllib_sea.policy.model_folder import load_policy, replace_weights, weights_of
from rllib_sea.policy_update.sharding.base import rank, world_size

if TYPE_CHECKING:
    from rllib_sea.policy_update.config import PolicyTrainConfig
    from rllib_sea.policy_update.logprobs import ResponseLogits

OPTIMIZER_FILE = "optimizer.pt"


class DDPStrategy:
    """Torch's DistributedDataParallel with AdamW; a plain module if there is one worker.

    Args:
        scorer: The policy.
        config: The run's configuration.
    """

    def __init__(self, scorer: ResponseLogits, config: PolicyTrainConfig) -> None:
        self._model = scorer.model
        parallel = world_size() > 1
        self.module: nn.Module = DistributedDataParallel(scorer) if parallel else scorer
        self._max_grad_norm = config.max_grad_norm
        self._optimizer = torch.optim.AdamW(
            scorer.parameters(),
            lr=config.policy_lr,
            betas=(config.policy_betas[0], config.policy_betas[1]),
            weight_decay=config.policy_weight_decay,
            fused=True,
        )

    def accumulating(self, last: bool) -> Any:
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self, lr: float) -> float:
        norm = float(nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm))
        if math.isfinite(norm):
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def weights(self) -> dict[str, torch.Tensor]:
        return weights_of(self._model)

    def save(self, folder: Path) -> None:
        if rank() == 0:
            torch.save(self._optimizer.state_dict(), folder / OPTIMIZER_FILE)

    def load(self, folder: Path) -> None:
        saved = load_policy(folder, torch.float32, "checkpoint")
        replace_weights(self._model, weights_of(saved))
        device = str(self._model.device)
        self._optimizer.load_state_dict(
            torch.load(folder / OPTIMIZER_FILE, map_location=device, weights_only=True)
        )
