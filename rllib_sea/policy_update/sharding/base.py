"""What every way of sharding offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn


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
            The norm before clipping. If it is not finite, nothing was applied.
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
