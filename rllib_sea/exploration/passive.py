"""No exploration: two samples of the policy, as in online DPO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rllib_sea.exploration.base import Proposals, Selection, make_selection


def passive(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """Passive sampling (SEA, section 6.1: online DPO).

    The first candidate and the first after it with another text; the rewards and the
    generators are not looked at.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators, unused.
    """
    del rngs
    texts = proposals.texts
    first = torch.zeros(texts.shape[0], dtype=torch.int64)
    second = (texts != texts[:, :1]).int().argmax(dim=1)
    return make_selection(proposals, first, second, favourite=torch.ones_like(first))
