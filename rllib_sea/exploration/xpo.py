"""A sample of the policy against a sample of the reference policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rllib_sea.exploration.base import Proposals, Selection, make_selection


def xpo(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """The pair of exploratory preference optimization (XPO, arXiv 2405.21046, Algorithm 1).

    The first response is the first candidate sampled from the policy, the second the first
    candidate of another text sampled from the reference policy: the one whose log-probability
    XPO's bonus lowers. If no candidate of the reference has another text, the prompt is not
    valid, whatever the other candidates of the policy are. There is a clash if the reference's
    first candidate has the first response's text.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators, unused.

    Raises:
        ValueError: The candidates are not from both policies.
    """
    del rngs
    texts, from_reference = proposals.texts, proposals.from_reference
    if from_reference.all() or not from_reference.any():
        raise ValueError("xpo needs candidates of the policy and of the reference policy")
    first = (~from_reference).int().argmax().expand(texts.shape[0])
    legal = from_reference & (texts != texts.gather(1, first[:, None]))
    second = legal.int().argmax(dim=1)
    favourite = from_reference.int().argmax().expand_as(first)
    selection = make_selection(proposals, first, second, favourite=favourite)
    return replace(selection, valid=legal.any(dim=1).numpy())
