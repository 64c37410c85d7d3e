"""Proposals and selected duels of a round, made from rewards and texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_sea.duels.records import Candidate
from rllib_sea.duels.rounds import Proposal
from rllib_sea.duels.selection import SelectedDuel


def proposal(
    texts: Sequence[str],
    rewards: Sequence[Sequence[float]] | np.ndarray,
    *,
    position: int = 0,
    num_from_reference: int = 0,
    token_log_prob: float = -1.0,
) -> Proposal:
    """A prompt ``p<position>`` with candidates of one token a letter.

    Args:
        texts: M responses; those that end in a full stop ended by themselves.
        rewards: (K, M).
        position: Its place in the round.
        num_from_reference: How many of the last candidates the reference policy gave.
        token_log_prob: The log-probability of each token.
    """
    values = np.asarray(rewards, dtype=np.float32)
    rows = range(len(texts))
    return Proposal(
        position=position,
        prompt_id=f"p{position}",
        prompt_text=f"prompt {position}",
        prompt_token_ids=(1, position),
        candidates=tuple(
            Candidate(
                text=text,
                token_ids=tuple(map(ord, text)),
                logprobs=(token_log_prob,) * len(text),
                finish_reason="stop" if text.endswith(".") else "length",
            )
            for text in texts
        ),
        num_from_reference=num_from_reference,
        # Tells prompt and candidate apart.
        features=np.array([[position, i] for i in rows], dtype=np.float32),
        rewards=values,
        policy_version=7,
    )


def selected(
    case: Proposal,
    first: int = 0,
    second: int = 1,
    *,
    synthetic: bool = False,
    own_preference: float = 1.0,
    audited: bool = False,
    clash: bool = False,
) -> SelectedDuel:
    """A duel of two of a proposal's candidates."""
    return SelectedDuel(
        proposal=case,
        first=first,
        second=second,
        member=0,
        clash=clash,
        synthetic=synthetic,
        audited=audited,
        own_preference=own_preference,
    )
