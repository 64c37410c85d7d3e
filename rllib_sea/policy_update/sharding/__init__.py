"""How gradients of several workers become one optimizer step.

A strategy wraps the module that gives logits; everything else in
:mod:`rllib_sea.policy_update.learner` is the same for all of them. To add one, write its class
in a file of its own and name it in :data:`SHARDING`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rllib_sea.policy_update.sharding.base import Strategy, rank, world_size
from rllib_sea.policy_update.sharding.ddp import DDPStrategy
from rllib_sea.policy_update.sharding.deepspeed_zero import DeepSpeedStrategy

if TYPE_CHECKING:
    from rllib_sea.policy_update.config import PolicyTrainConfig
    from rllib_sea.policy_update.logprobs import ResponseLogits

SHARDING: Mapping[str, Callable[[ResponseLogits, PolicyTrainConfig], Strategy]] = {
    "ddp": DDPStrategy,
    "deepspeed": DeepSpeedStrategy,
}

__all__ = ["SHARDING", "Strategy", "rank", "world_size"]
