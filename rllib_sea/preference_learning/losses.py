"""Direct losses on preference pairs: pure functions of log-probabilities.

All take the margin h, in nats::

    h = [log pi(y+|x) - log pi_ref(y+|x)] - [log pi(y-|x) - log pi_ref(y-|x)]

To add a loss, write its function and name it in :data:`LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from text_duel.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class PairLogProbs:
    """Log-probabilities of B pairs under the policy and its reference.

    Attributes:
        chosen: (B,) log pi(y+|x), summed over tokens.
        rejected: (B,) log pi(y-|x), summed over tokens.
        reference_chosen: (B,) log pi_ref(y+|x), summed.
        reference_rejected: (B,) log pi_ref(y-|x), summed.
        chosen_lengths: (B,) tokens of y+, at least 1.
        rejected_lengths: (B,) tokens of y-, at least 1.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    reference_chosen: torch.Tensor
    reference_rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor

    def margin(self) -> torch.Tensor:
        """(B,) h."""
        return (self.chosen - self.reference_chosen) - (self.rejected - self.reference_rejected)

    def mean_margin(self) -> torch.Tensor:
        """(B,) h with log-probabilities averaged over each response's tokens."""
        return (self.chosen - self.reference_chosen) / self.chosen_lengths - (
            self.rejected - self.reference_rejected
        ) / self.rejected_lengths


def dpo(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """``-log sigmoid(beta h)`` (DPO, arXiv 2305.18290, Eq. 7).

    Returns:
        (B,) losses.
    """
    return functional.softplus(-beta * logps.margin())


def ipo(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """``(h - 1 / (2 beta))^2`` with summed log-probabilities (IPO, arXiv 2310.12036, Eq. 17).

    Returns:
        (B,) losses.
    """
    return (logps.margin() - 1.0 / (2.0 * beta)).square()


def ipo_mean(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """IPO with log-probabilities averaged over tokens.

    The convention that IPO's authors confirmed to TRL's maintainers: h does not grow with
    the responses' lengths.

    Returns:
        (B,) losses.
    """
    return (logps.mean_margin() - 1.0 / (2.0 * beta)).square()


def slic(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """``max(0, 1 - beta h)`` (SLiC, arXiv 2305.10425, in the form of SEA, section 3).

    Returns:
        (B,) losses.
    """
    return functional.relu(1.0 - beta * logps.margin())


LOSSES: dict[str, Callable[[PairLogProbs, float], torch.Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "ipo_mean": ipo_mean,
    "slic": slic,
}


def check_loss(name: str) -> None:
    """Raises ConfigError, listing the losses, where there is none of that name."""
    if name not in LOSSES:
        raise ConfigError(
            f"loss: {name!r} is none of {', '.join(LOSSES)}{nearest(str(name), LOSSES)}"
        )
