"""Labels drawn from probabilities."""

from __future__ import annotations

from dataclasses import replace

from gymnasium.utils.seeding import np_random

from rllib_sea.preference_log.records import Question
from rllib_sea.randomness import Stream, integer_seeds
from text_duel.labels import LabelRule
from text_duel.oracles import probability_of
from text_duel.verdicts import SIDES, Verdict


def drawn(question: Question, verdict: Verdict, rule: LabelRule, seed: int) -> Verdict:
    """A verdict with the choice that a rule draws from its probability.

    Args:
        question: What it is about; by its place in its round the draw is its own.
        verdict: As the oracle gave it.
        rule: The environment's.
        seed: The run's.
    """
    if verdict.choice not in SIDES:
        return verdict
    (label_seed,) = integer_seeds(seed, question.round, [question.position], Stream.LABEL)
    rng, _ = np_random(label_seed)
    first_wins = rule.draw(probability_of(verdict), rng)
    return replace(verdict, choice="first" if first_wins else "second")
