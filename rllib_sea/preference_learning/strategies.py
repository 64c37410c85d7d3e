"""How gradients of several workers become one optimizer step: DDP and DeepSpeed.

A strategy wraps the module that gives logits; everything else in
:mod:`rllib_sea.preference_learning.learner` is the same for all of them. To add one, write
its class and name it in :data:`STRATEGIES` (and in the configuration's list of names).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rllib_sea.policy.model_folder import load_policy, replace_weights, weights_of
from rllib_sea.preference_learning.config import PolicyTrainConfig
from rllib_sea.preference_learning.logprobs import ResponseLogits

OPTIMIZER_FILE = "optimizer.pt"


def world_size() -> int:
    """Workers of the run; 1 outside of torch.distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This worker's number."""
    return dist.get_rank() if dist.is_initialized() else 0


class Strategy(Protocol):
    """One optimizer over a module that may be spread over workers.

    Attributes:
        module: The wrapped module, to be called instead of the bare one.
    """

    module: nn.Module

    def accumulating(self, last: bool) -> Any:
        """A context for the forward and backward pass of one minibatch.

        Args:
            last: Whether it is the last one before :meth:`step`.
        """
        ...

    def backward(self, loss: torch.Tensor) -> None:
        """Adds a loss's gradient; the step uses the mean over workers."""
        ...

    def step(self, lr: float) -> float:
        """Clips and applies the gradient, and clears it.

        Returns:
            The norm before clipping. Where it is not finite nothing was applied.
        """
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """The language model's whole state in full precision, tied weights once.

        Every worker must call it; only the first one's result is complete.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes the optimizer's state beside the model's; every worker must call it."""
        ...

    def load(self, folder: Path) -> None:
        """Restores model and optimizer from a folder; every worker must call it."""
        ...


class DDPStrategy:
    """Torch's DistributedDataParallel with AdamW; a plain module where there is one worker.

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
            lr=config.lr,
            betas=(config.betas[0], config.betas[1]),
            weight_decay=config.weight_decay,
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
            "lr": config.lr,
            "betas": list(config.betas),
            "eps": 1e-8,
            "weight_decay": config.weight_decay,
            "torch_adam": True,
            "adam_w_mode": True,
        }
        self._engine, _, _, _ = deepspeed.initialize(
            model=scorer,
            config={
                "train_micro_batch_size_per_gpu": config.minibatch_size,
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


STRATEGIES: Mapping[str, Callable[[ResponseLogits, PolicyTrainConfig], Strategy]] = {
    "ddp": DDPStrategy,
    "deepspeed": DeepSpeedStrategy,
}
