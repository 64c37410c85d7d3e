"""Whether raters agree, and how each of them labels: from the verdicts of a log."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import krippendorff
import numpy as np

from rllib_sea.preference_log.records import LogEntry
from rllib_sea.statistics import Estimate, hard_win_rate
from text_duel.verdicts import CHOICES, Choice

# What a rater says by question. A skip says nothing about it.
Judgments = Mapping[int, Choice]


@dataclass(frozen=True, slots=True)
class RaterReport:
    """How one rater labels.

    Attributes:
        choices: Their verdicts by choice.
        left: The share of their decisions for the response on the left, whatever it was: 0.5 if
            the side does not matter to them; None if nothing was shown on sides, or decided.
        seconds: Median seconds of a verdict; None if none says.
    """

    choices: Counter[str]
    left: Estimate | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a log says about its raters.

    Attributes:
        num_shared: Questions that two raters or more judged.
        alpha: Krippendorff's, of nominal values; None if it is undefined.
        why_undefined: Why; empty if it is defined.
        kappas: Cohen's, with how many questions both judged, by pair of raters; NaN: undefined.
        raters: By name.
        strategies: Verdicts by choice, by exploration strategy.
    """

    num_shared: int
    alpha: float | None
    why_undefined: str
    kappas: dict[tuple[str, str], tuple[float, int]]
    raters: dict[str, RaterReport]
    strategies: dict[str, Counter[str]]


def agreement(entries: Iterable[LogEntry]) -> Agreement:
    """Compares the standing verdicts of a log.

    Args:
        entries: Its questions.
    """
    judgments: defaultdict[str, dict[int, Choice]] = defaultdict(dict)
    choices: defaultdict[str, Counter[str]] = defaultdict(Counter)
    lefts: defaultdict[str, list[float]] = defaultdict(list)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    strategies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        for given in entry.verdicts:
            rater, verdict = given.rater, given.verdict
            choices[rater][verdict.choice] += 1
            strategies[entry.question.strategy][verdict.choice] += 1
            if verdict.choice != "skip":
                judgments[rater][entry.id] = verdict.choice
            if verdict.shown_first is not None and verdict.choice in ("first", "second"):
                lefts[rater].append(float(verdict.choice == verdict.shown_first))
            if verdict.seconds is not None:
                seconds[rater].append(verdict.seconds)
    alpha, why = krippendorff_alpha(list(judgments.values()))
    counts = Counter(key for given in judgments.values() for key in given)
    return Agreement(
        num_shared=sum(number > 1 for number in counts.values()),
        alpha=alpha,
        why_undefined=why,
        kappas={
            (one, other): (cohen_kappa(judgments[one], judgments[other]), shared)
            for one, other in combinations(sorted(judgments), 2)
            if (shared := len(judgments[one].keys() & judgments[other].keys()))
        },
        raters={
            rater: RaterReport(
                choices[rater],
                hard_win_rate(lefts[rater]) if lefts[rater] else None,
                statistics.median(seconds[rater]) if seconds[rater] else None,
            )
            for rater in sorted(choices)
        },
        strategies=dict(sorted(strategies.items())),
    )


def krippendorff_alpha(raters: Sequence[Judgments]) -> tuple[float | None, str]:
    """Krippendorff's alpha of nominal values: 1 if all agree, 0 as by chance.

    Args:
        raters: What each rater says.

    Returns:
        Alpha, and an empty text; or None, and why it is undefined.
    """
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for given in raters:
        for key, choice in given.items():
            counts[key][choice] += 1
    shared = [count for count in counts.values() if count.total() > 1]
    if not shared:
        return None, "no question has two judgments: set overlap"
    if len(set().union(*shared)) < 2:
        return None, "all judgments are the same: chance would agree as well"
    table = np.array([[count[choice] for choice in CHOICES] for count in shared])
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal")), ""


def cohen_kappa(one: Judgments, other: Judgments) -> float:
    """Cohen's kappa of two raters, on the questions that both judged.

    Args:
        one: What one says.
        other: What the other says.

    Returns:
        ``(p - e) / (1 - e)`` of the observed agreement p and that by chance e; NaN if e is 1.
    """
    shared = one.keys() & other.keys()
    if not shared:
        return math.nan
    observed = sum(one[key] == other[key] for key in shared) / len(shared)
    first, second = (Counter(rater[key] for key in shared) for rater in (one, other))
    chance = sum(first[choice] * second[choice] for choice in first) / len(shared) ** 2
    return math.nan if chance == 1.0 else (observed - chance) / (1.0 - chance)
