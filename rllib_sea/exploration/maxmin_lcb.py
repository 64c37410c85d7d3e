"""A Stackelberg game on lower confidence bounds: leader against its strongest rival."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import (
    Proposals,
    Selection,
    argmax_of_other_text,
    make_selection,
)
from rllib_sea.exploration.bounds import centred


def maxmin_lcb(
    proposals: Proposals,
    rngs: Sequence[np.random.Generator],
    *,
    confidence: float = 1.0,
) -> Selection:
    """MaxMinLCB (Bandits with Preference Feedback, arXiv 2406.16745).

    With mean and standard deviation over the K members (population) of ``d_k(i, j) =
    r_k(x, i) - r_k(x, j)`` and ``LCB(i, j) = mean - b std``, the first response is
    ``argmax_i min_j LCB(i, j)`` and the second its ``argmin_j``, j of another text than i. (The
    paper's bounds are those of ``sigmoid(d)`` against 1/2: the same choice, since the sigmoid is
    increasing.)

    The paper first drops each candidate that surely loses to some other, ``UCB(i, k) < 0``. With
    these bounds that changes nothing: ``LCB(k, j) >= LCB(k, i) + LCB(i, j)``, since a standard
    deviation obeys the triangle inequality, so k is the better leader than i and the stronger
    rival. If one text only is left, the paper plays it against itself: here that is a clash,
    ``min_j LCB > 0`` at the first response, which meets its strongest rival all the same. Ties go
    to the lowest index (in the paper's code, to a random one); with equal rewards that is the
    first candidate and the first of another text.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators, unused.
        confidence: b, at least 0.
    """
    del rngs
    texts, rewards = proposals.texts, centred(proposals.rewards)
    mean = rewards.mean(dim=0)
    spread = (rewards[..., :, None] - rewards[..., None, :]).std(dim=0, unbiased=False)
    lower = mean[:, :, None] - mean[:, None, :] - confidence * spread  # (B, M, M)

    same = texts[:, :, None] == texts[:, None, :]
    guaranteed = lower.masked_fill(same, torch.inf).amin(dim=2)
    first = guaranteed.argmax(dim=1)
    rows = torch.arange(len(first))
    second = argmax_of_other_text(-lower[rows, first], texts, first)
    favourite = torch.where(guaranteed[rows, first] > 0, first, second)
    return make_selection(proposals, first, second, favourite=favourite)
