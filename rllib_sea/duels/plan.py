"""The plan of a round: its prompts, and which of their pairs the ERM labels. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rllib_sea.exploration.mixing import Gamma, draw_synthetic, gamma_at
from rllib_sea.randomness import Stream, generators, prompt_order


@dataclass
class Counts:
    """What a run has done so far; see docs/metrics.md."""

    round: int = 0
    num_oracle_queries: int = 0
    num_open_questions: int = 0
    num_skipped_questions: int = 0
    num_withdrawn_questions: int = 0
    num_prompts_drawn: int = 0
    num_synthetic_pairs: int = 0
    num_skipped_prompts: int = 0
    num_evaluation_questions: int = 0
    num_initial_preferences: int = 0
    num_texts_cut: int = 0


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A round's prompts.

    Attributes:
        gamma: The mixture ratio of this round: 1 while the ERM is not trusted.
        num_duels: How many duels it may have.
        prompts: Its prompts in the order of their positions, as places in the list of prompts that
            were planned with; more than ``num_duels`` if prompts are chosen from a pool.
        synthetic: For each position, whether the ERM labels the pair.
        audited: For each position, whether the oracle is asked about the pair that the ERM would
            label.
    """

    gamma: float
    num_duels: int
    prompts: tuple[int, ...]
    synthetic: tuple[bool, ...]
    audited: tuple[bool, ...]


def plan_round(
    counts: Counts,
    *,
    num_prompts: int,
    prompts_per_round: int,
    prompt_pool_size: int | None,
    query_budget: int | None,
    gamma: Gamma,
    trusted: bool,
    audit_share: float,
    seed: int,
) -> RoundPlan:
    """Draws a round's prompts, and which of their pairs the ERM labels (Algorithm 2, line 2).

    Args:
        counts: What the run has done so far. Open questions count as asked: the budget is never
            exceeded, whenever they are answered.
        num_prompts: Prompts that there are.
        prompts_per_round: b of Algorithm 2.
        prompt_pool_size: Prompts from which the round's are chosen; None takes them as they come.
            With a pool nothing is synthetic.
        query_budget: Labels that may be asked for; None: no end.
        gamma: The mixture ratio, a number or a schedule over queries.
        trusted: Whether the ERM may label pairs; see :class:`rllib_sea.duels.audit.Audit`.
        audit_share: Probability that a question is about a pair that the ERM would label.
        seed: The run's.
    """
    gamma_now = gamma_at(gamma, counts.num_oracle_queries) if trusted else 1.0
    num_duels = prompts_per_round
    synthetic = draw_synthetic(
        gamma_now, generators(seed, counts.round, range(num_duels), Stream.MIXING)
    )
    if query_budget is not None:
        left = query_budget - counts.num_oracle_queries - counts.num_open_questions
        asked = np.cumsum([not ours for ours in synthetic])
        if left <= 0:
            num_duels = 0
        elif asked[-1] > left:
            num_duels = int(np.searchsorted(asked, left, side="right"))
    num_drawn = num_duels
    if prompt_pool_size is not None and num_duels:
        num_drawn = prompt_pool_size
        synthetic = [False] * num_drawn
    draws = generators(seed, counts.round, range(num_drawn), Stream.AUDIT)
    audited = (rng.random() < audit_share for rng in draws)
    return RoundPlan(
        gamma=gamma_now,
        num_duels=num_duels,
        prompts=tuple(prompt_order(num_prompts, seed, counts.num_prompts_drawn, num_drawn)),
        synthetic=tuple(synthetic[:num_drawn]),
        audited=tuple(a and not s for a, s in zip(audited, synthetic, strict=False)),
    )
