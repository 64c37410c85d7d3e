"""Confidence bounds on rewards that have no zero."""

from __future__ import annotations

import torch

from rllib_sea.settings.checks import check_number


def centred(rewards: torch.Tensor) -> torch.Tensor:
    """Each member's rewards minus their mean over a prompt's candidates.

    A Bradley-Terry reward is known up to a constant of the member and the prompt, which no
    label can tell: the spread of raw rewards over members would mostly be that of their
    constants. What is left is the reward relative to the average sample of the policy.

    Args:
        rewards: (K, B, M).

    Returns:
        (K, B, M).
    """
    return rewards - rewards.mean(dim=2, keepdim=True)


def check_confidence(*, confidence: float = 1.0) -> None:
    """Raises ConfigError for a confidence that is not a number of at least 0."""
    check_number("strategy_config: confidence", confidence)
