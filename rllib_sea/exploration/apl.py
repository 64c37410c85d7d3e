"""Active preference learning: the pair that the policy itself is surest about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_sea.exploration.base import Proposals, Selection, required_implicit_rewards
from rllib_sea.exploration.pairs import best_pair, unordered_pairs


def apl(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """The largest implicit-reward margin (APL, arXiv 2402.08114).

    ``argmax_{i < j} |h_i - h_j|`` with ``h = log pi(y|x) - log pi_ref(y|x)``; DPO's implicit
    reward is ``beta h``, and a positive beta changes no argmax. If all are equal, as before
    the first update, the pair is the first candidate and the first of another text.

    Its authors' code draws two responses per prompt and chooses prompts by margin: for that, take
    two candidates and the acquisition ``certainty``
    (:mod:`rllib_sea.exploration.prompt_acquisition`). Choosing the pair among M is what the
    code of SEA's authors does by default.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators, unused.

    Raises:
        ValueError: The proposals have no implicit rewards.
    """
    del rngs
    implicit = required_implicit_rewards(proposals)
    pairs = unordered_pairs(implicit.shape[1])
    margin = (implicit[:, pairs[0]] - implicit[:, pairs[1]]).abs()
    return best_pair(proposals, margin, pairs)
