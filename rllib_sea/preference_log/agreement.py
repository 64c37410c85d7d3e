"""Whether raters agree, and how each of them labels: from the verdicts of a log."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import krippendorff
import numpy as np

from rllib_sea.preference_log.records import LogEntry
from rllib_sea.statistics import Estimate, hard_win_rate
from text_duel.verdict_rules import UNKNOWN, reliability_of
from text_duel.verdicts import CHOICES, Choice, Verdict

# Words of the two responses per second of a verdict above which nobody has read them. People read
# about 4 (Brysbaert, Journal of Memory and Language 109, 2019), and skim at twice that.
WORDS_PER_SECOND = 10.0
# What a rater says by question. A skip says nothing about it.
Judgments = Mapping[int, Choice]


@dataclass(frozen=True, slots=True)
class RaterReport:
    """How one rater labels.

    Attributes:
        choices: Their verdicts on questions for labels, by choice.
        left: The share of their decisions for the response on the left, whatever it was: 0.5 if
            the side does not matter to them; None if nothing was shown on sides, or decided.
        seconds: Median seconds of a verdict; None if none says.
        reliability: How often they are right, :func:`text_duel.verdict_rules.reliability_of`.
        gold: The share of gold questions that they judged right, a tie half, and how many they
            judged; None without any.
        consistency: The share of repeated questions on which they said the same, and how many they
            judged again; None without any.
        too_fast: Of how many of their verdicts the responses cannot have been read, see
            :data:`WORDS_PER_SECOND`, and how many verdicts have a time.
    """

    choices: Counter[str]
    left: Estimate | None
    seconds: float | None
    reliability: Estimate
    gold: tuple[Estimate, int] | None
    consistency: tuple[Estimate, int] | None
    too_fast: tuple[int, int]


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


@dataclass(slots=True)
class _Said:
    """What one rater has said.

    Attributes:
        choices: Of questions for labels, by choice.
        judgments: The same without skips, by question.
        gold: Of gold questions.
        again: Of questions that were repeated, by the question that they repeat.
        lefts: Of decisions, whether they were for the left.
        seconds: Of verdicts on questions for labels.
        fast: Of all verdicts that have a time, whether the responses cannot have been read.
    """

    choices: Counter[str] = field(default_factory=Counter)
    judgments: dict[int, Choice] = field(default_factory=dict)
    gold: dict[int, Choice] = field(default_factory=dict)
    again: dict[int, Choice] = field(default_factory=dict)
    lefts: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    fast: list[bool] = field(default_factory=list)

    def take(self, entry: LogEntry, verdict: Verdict) -> None:
        """Takes a verdict in."""
        question, choice = entry.question, verdict.choice
        if verdict.seconds is not None and choice != "skip":
            texts = question.first.text, question.second.text
            num_words = sum(len(text.split()) for text in texts)
            self.fast.append(num_words > WORDS_PER_SECOND * verdict.seconds)
        if question.repeats is not None:
            self.again[question.repeats] = choice
        elif question.purpose == "gold":
            self.gold[entry.id] = choice
        else:
            self.choices[choice] += 1
            if choice != "skip":
                self.judgments[entry.id] = choice
            if verdict.shown_first is not None and choice in ("first", "second"):
                self.lefts.append(float(choice == verdict.shown_first))
            if verdict.seconds is not None:
                self.seconds.append(verdict.seconds)

    def report(self, reliability: Estimate) -> RaterReport:
        """The same in numbers."""
        return RaterReport(
            self.choices,
            hard_win_rate(self.lefts) if self.lefts else None,
            statistics.median(self.seconds) if self.seconds else None,
            reliability,
            _gold_share(self.gold),
            _same_share(self.judgments, self.again),
            (sum(self.fast), len(self.fast)),
        )


def agreement(entries: Iterable[LogEntry]) -> Agreement:
    """Compares the standing verdicts of a log.

    Args:
        entries: Its questions, of all purposes. Those for an evaluation are left out.
    """
    said: defaultdict[str, _Said] = defaultdict(_Said)
    strategies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        for given in entry.verdicts:
            if entry.question.purpose == "evaluation":
                continue
            said[given.rater].take(entry, given.verdict)
            if entry.question.purpose == "label":
                strategies[entry.question.strategy][given.verdict.choice] += 1
    alpha, why = krippendorff_alpha([rater.judgments for rater in said.values()])
    counts = Counter(key for rater in said.values() for key in rater.judgments)
    reliable = reliability_of(
        [
            (name, key, choice)
            for name, rater in said.items()
            for key, choice in (rater.judgments | rater.gold).items()
        ],
        {key for rater in said.values() for key in rater.gold},
    )
    return Agreement(
        num_shared=sum(number > 1 for number in counts.values()),
        alpha=alpha,
        why_undefined=why,
        kappas={
            (one, other): (cohen_kappa(said[one].judgments, said[other].judgments), shared)
            for one, other in combinations(sorted(said), 2)
            if (shared := len(said[one].judgments.keys() & said[other].judgments.keys()))
        },
        raters={
            name: said[name].report(Estimate(*reliable.get(name, UNKNOWN))) for name in sorted(said)
        },
        strategies=dict(sorted(strategies.items())),
    )


def _gold_share(given: Judgments) -> tuple[Estimate, int] | None:
    """How often the first response was preferred; a tie is half, both bad is wrong."""
    right = {"first": 1.0, "tie": 0.5}
    shares = [right.get(choice, 0.0) for choice in given.values() if choice != "skip"]
    return (hard_win_rate(shares), len(shares)) if shares else None


def _same_share(before: Judgments, again: Judgments) -> tuple[Estimate, int] | None:
    """How often the same was said of a question again."""
    shared = [key for key in again if key in before and again[key] != "skip"]
    same = [float(again[key] == before[key]) for key in shared]
    return (hard_win_rate(same), len(same)) if same else None


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
