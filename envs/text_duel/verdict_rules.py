"""From what raters say about a duel to its label, and how reliable raters are: pure functions.

Rater k is right with probability e_k, whichever response is better: the one-coin model of Dawid
and Skene (Applied Statistics 28, 1979). Under Bradley and Terry's model of the better response it
is crowd-BT (Chen et al., WSDM 2013): with d the difference of the responses' rewards and s the
sigmoid, P(rater k prefers the first) = e_k s(d) + (1 - e_k) s(-d).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np

from text_duel.verdicts import Choice, Label, Verdict

# A rater of whom nothing is known has been right in 8 of 10 questions: the Beta prior of e_k.
PRIOR_RIGHT, PRIOR_WRONG = 8.0, 2.0
PRIOR = PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG)
_VOTES: dict[Choice, float] = {"first": 1.0, "second": 0.0, "tie": 0.5}
_MAX_STEPS, _ENOUGH = 1000, 1e-8

# Who said what about which question, by its id.
Judgment = tuple[str, int, Choice]


def single(verdicts: Sequence[Verdict], reliabilities: Sequence[float]) -> Label | None:
    """The rule ``single``: the first verdict decides.

    Args:
        verdicts: The standing verdicts on one question, at least one, the oldest first.
        reliabilities: e_k of who gave them.

    Returns:
        1 or 0 for a choice, 0.5 for a tie; None if there is nothing to learn: for ``both_bad`` (it
        says nothing about which is better) and for ``skip``.
    """
    preference = _VOTES.get(verdicts[0].choice)
    return None if preference is None else Label(preference)


def majority(verdicts: Sequence[Verdict], reliabilities: Sequence[float]) -> Label | None:
    """The rule ``majority``: the share of votes for the first response; a tie is half a vote each.

    Args:
        verdicts: As for :func:`single`.
        reliabilities: Likewise.
    """
    votes = [_VOTES[verdict.choice] for verdict in verdicts if verdict.choice in _VOTES]
    return Label(sum(votes) / len(votes)) if votes else None


def reliability(verdicts: Sequence[Verdict], reliabilities: Sequence[float]) -> Label | None:
    """The rule ``reliability``: the more probable side, weighted by how probable it is.

    Let p be the probability that the first response is better, given all verdicts and no opinion
    before them. Up to a constant, crowd-BT's likelihood of the verdicts is ``p s(d) + (1 - p)
    s(-d)``. The gradient of its logarithm at d = 0 is (2 p - 1) / 2 and has that sign at every d.
    The label 1 (0 if p < 0.5) of weight ``|2 p - 1|`` has that gradient and that sign under
    ``w log s(d)``. The label p of weight 1 has the gradient, too, but pulls d towards logit(p): of
    somebody who guesses (e = 0.5) it would teach a tie. This label of theirs weighs 0.

    A tie says the same of both sides. Where nobody decides, it is a label 0.5 that weighs what the
    same raters' decision would.

    Args:
        verdicts: As for :func:`single`.
        reliabilities: Likewise, in (0, 1).

    Returns:
        None if there is nothing to learn: nobody voted, or p is 0.5.
    """
    said = [(_VOTES.get(v.choice), e) for v, e in zip(verdicts, reliabilities, strict=True)]
    votes = [(vote, _logit(e)) for vote, e in said if vote is not None]
    decided = [(2.0 * vote - 1.0) * evidence for vote, evidence in votes if vote != 0.5]
    # tanh(x / 2) = 2 s(x) - 1
    if decided:
        leaning = float(np.tanh(sum(decided) / 2.0))
        return Label(1.0 if leaning > 0 else 0.0, abs(leaning)) if leaning else None
    if not votes:
        return None
    weight = abs(float(np.tanh(sum(evidence for _, evidence in votes) / 2.0)))
    return Label(0.5, weight) if weight else None


# How verdicts on a question become its label.
LABEL_RULES: dict[str, Callable[[Sequence[Verdict], Sequence[float]], Label | None]] = {
    rule.__name__: rule for rule in (single, majority, reliability)
}


def reliability_of(
    judgments: Sequence[Judgment], gold: Collection[int] = ()
) -> dict[str, tuple[float, float, float]]:
    """How often each rater is right: e_k, and its 95% interval.

    Expectation and maximisation, in turns. Which response is better is estimated from all raters
    (:func:`reliability`'s p; for a gold question it is known), then each e_k is the expected share
    of right decisions, beside ten others of which eight are right: a posterior's mean, of the prior
    Beta(8, 2). One answer moves a new rater by 0.02 or 0.07.
    Questions that only one rater decided say nothing about them and are left out. A tie says
    nothing, but of a gold question, which is none: there it is half right and half wrong.
    Two raters alone cannot be told apart by how often they agree: they share what is found. A
    third one, or gold questions, can tell.

    The interval is that of e_k's posterior given the other raters' e: with q the probability by
    their verdicts that a decision is right, each has the likelihood ``e q + (1 - e) (1 - q)``.

    No scores of a reward model are used: what is to judge the model's labels must not ask it.

    Args:
        judgments: Each rater's standing verdicts, at most one per rater and question.
        gold: Questions of which the first response is known to be better.

    Returns:
        (e_k, low, high) by rater; of the prior for those who share no question with anybody.
    """
    gold = frozenset(gold)
    raters = sorted({rater for rater, _, _ in judgments})
    decided = [(rater, key, _VOTES[choice]) for rater, key, choice in judgments if choice in _VOTES]
    number = Counter(key for _, key, vote in decided if vote != 0.5)
    # (rater, question, side, how much of an answer it is)
    rows: list[tuple[str, int, float, float]] = []
    for rater, key, vote in decided:
        if vote != 0.5 and (key in gold or number[key] > 1):
            rows.append((rater, key, 2.0 * vote - 1.0, 1.0))
        elif vote == 0.5 and key in gold:
            rows += [(rater, key, side, 0.5) for side in (-1.0, 1.0)]
    keys = sorted({key for _, key, _, _ in rows})
    who = np.searchsorted(raters, [row[0] for row in rows]) if rows else np.zeros(0, np.int64)
    what = np.searchsorted(keys, [row[1] for row in rows]) if rows else np.zeros(0, np.int64)
    side, share = np.array([row[2:] for row in rows]).reshape(-1, 2).T
    known = np.array([key in gold for key in keys], dtype=bool)
    total = np.bincount(who, share, len(raters)) + PRIOR_RIGHT + PRIOR_WRONG
    e = np.full(len(raters), PRIOR)

    def is_right(e: np.ndarray, own: float) -> np.ndarray:
        """Of each row, the probability that its side is right; own: 0 by the others' alone."""
        evidence = side * _logit(e)[who]
        leaning = np.bincount(what, evidence, len(keys))
        leaning = np.where(known, np.inf, leaning)[what] - (1.0 - own) * evidence
        return _sigmoid(side * leaning)

    for _ in range(_MAX_STEPS):
        right = np.bincount(who, share * is_right(e, own=1.0), len(raters))
        before, e = e, (PRIOR_RIGHT + right) / total
        if np.abs(e - before).max(initial=0.0) < _ENOUGH:
            break
    q = is_right(e, own=0.0)
    return {
        rater: (float(e[i]), *_interval(q[who == i], share[who == i]))
        for i, rater in enumerate(raters)
    }


def _interval(q: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Where 95% of a rater's e lie, on a grid.

    Args:
        q: (N,) probabilities that their decisions are right.
        share: (N,) how much of a decision each is.
    """
    grid = (np.arange(2000) + 0.5) / 2000
    log_density = (PRIOR_RIGHT - 1.0) * np.log(grid) + (PRIOR_WRONG - 1.0) * np.log1p(-grid)
    for value in np.unique(q):
        log_density += share[q == value].sum() * np.log(grid * value + (1 - grid) * (1 - value))
    below = np.cumsum(np.exp(log_density - log_density.max()))
    low, high = np.searchsorted(below, np.array([0.025, 0.975]) * below[-1])
    return float(grid[low]), float(grid[high])


def _logit(e: np.ndarray | float) -> np.ndarray:
    return np.log(e) - np.log1p(-np.asarray(e))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


# What :func:`reliability_of` finds out about somebody without verdicts.
UNKNOWN = (PRIOR, *_interval(np.zeros(0), np.zeros(0)))
