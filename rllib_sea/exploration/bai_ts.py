"""Thompson sampling for best arm identification: which pair teaches the most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import (
    Proposals,
    Selection,
    argmax_of_other_text,
    draw_members,
    make_selection,
    member_argmax,
    member_variance,
)
from rllib_sea.settings.checks import check_choice


def preference_variance(rewards: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Epistemic variance of the probability that ``first`` beats each candidate.

    ``Var_k[sigmoid(r_k(x, y) - r_k(x, b))]`` over the K members (population variance).

    Args:
        rewards: (K, B, M).
        first: (B,) index of y.

    Returns:
        (B, M); 0 at ``first`` itself.
    """
    num_members, num_prompts, _ = rewards.shape
    index = first.view(1, num_prompts, 1).expand(num_members, -1, -1)
    margins = rewards.gather(2, index) - rewards
    return member_variance(torch.sigmoid(margins), margins)


def logit_variance(rewards: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """``Var_k[r_k(x, y) - r_k(x, b)]``: without the sigmoid, as in the authors' code.

    Args and result as for :func:`preference_variance`.
    """
    num_members, num_prompts, _ = rewards.shape
    index = first.view(1, num_prompts, 1).expand(num_members, -1, -1)
    margins = rewards.gather(2, index) - rewards
    return member_variance(margins, margins)


VARIANCES = {"probability": preference_variance, "logit": logit_variance}


def bai_ts(
    proposals: Proposals,
    rngs: Sequence[np.random.Generator],
    *,
    variance: str = "probability",
) -> Selection:
    """BAI Thompson sampling (SEA, Algorithm 2, lines 4 and 5, BAI branch).

    The first response is the favourite of a uniformly drawn member; the second is the
    candidate against which the ensemble disagrees most about who wins. With K = 1 there
    is no disagreement, all variances are 0, and the second response is the first
    candidate of another text; so it is if all rewards are equal.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators.
        variance: Of the preference's ``"probability"`` (the paper) or of its ``"logit"``
            (the authors' code).
    """
    rewards, texts = proposals.rewards, proposals.texts
    member = draw_members(rewards.shape[0], rngs)
    first = member_argmax(rewards, member)
    values = VARIANCES[variance](rewards, first)
    second = argmax_of_other_text(values, texts, first)
    return make_selection(proposals, first, second, member, favourite=values.argmax(dim=1))


def check_variance(*, variance: str = "probability") -> None:
    """Raises ConfigError for a variance that there is not."""
    check_choice("strategy_config: variance", variance, VARIANCES)
