"""Double reverse Thompson sampling: a probable best against a probable worst."""

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
)


def drts(proposals: Proposals, rngs: Sequence[np.random.Generator]) -> Selection:
    """Double reverse Thompson sampling (ActiveUltraFeedback, arXiv 2603.09692).

    The first response is the favourite of a drawn member, the second the least liked
    candidate of a member drawn independently, drawn again while its text is the first's.
    One random order of the members replaces the loop, as in
    :func:`rllib_sea.exploration.ee_ts.ee_ts`; it may begin with the first response's own
    member, so K = 1 gives that member's best and worst. If no member's least liked
    candidate has another text (all rewards equal, for instance), the second response is the
    worst other text by the ensemble's mean reward.

    The paper's draws are uniform in each candidate's own confidence interval, independent
    of one another; a member is a joint draw of all candidates' rewards.

    Args:
        proposals: B prompts with M candidates each.
        rngs: B generators.
    """
    rewards, texts = proposals.rewards, proposals.texts
    num_members, num_prompts, _ = rewards.shape
    member = draw_members(num_members, rngs)
    first = member_argmax(rewards, member)
    order = torch.from_numpy(np.stack([rng.permutation(num_members) for rng in rngs]))
    worst = rewards.argmin(dim=2).T.gather(1, order)  # (B, K) in drawn order
    differs = texts.gather(1, worst) != texts.gather(1, first[:, None])
    drawn_second = worst[torch.arange(num_prompts), differs.int().argmax(dim=1)]
    worst_by_mean = argmax_of_other_text(-rewards.mean(dim=0), texts, first)
    second = torch.where(differs.any(dim=1), drawn_second, worst_by_mean)
    return make_selection(proposals, first, second, member, favourite=worst[:, 0])
