"""From verdicts to labels, and how reliable raters are: numbers by hand, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from text_duel.verdict_rules import (
    LABEL_RULES,
    PRIOR,
    UNKNOWN,
    Judgment,
    majority,
    reliability,
    reliability_of,
    single,
)
from text_duel.verdicts import Choice, Label, Verdict


def said(*choices: Choice) -> list[Verdict]:
    return [Verdict(choice) for choice in choices]


def trust(choices: Sequence[object], e: float = 0.8) -> list[float]:
    return [e] * len(choices)


def test_single_is_the_first_verdict() -> None:
    for choices, label in (
        (("first", "second"), Label(1.0)),
        (("second",), Label(0.0)),
        (("tie", "first"), Label(0.5)),
        (("both_bad", "first"), None),
        (("skip", "first"), None),
    ):
        assert single(said(*choices), trust(choices)) == label
    assert list(LABEL_RULES) == ["single", "majority", "reliability"]


def test_majority_is_the_share_of_votes() -> None:
    for choices, label in (
        (("first", "first", "second"), Label(2 / 3)),
        (("first", "tie"), Label(3 / 4)),
        (("first", "second"), Label(0.5)),
        (("skip", "second", "both_bad"), Label(0.0)),
        (("skip", "both_bad"), None),
    ):
        assert majority(said(*choices), trust(choices)) == label


@pytest.mark.parametrize(
    ("choices", "reliabilities", "probability"),
    [
        (("first",), (0.8,), 0.8),
        # 0.8 * 0.8 / (0.8 * 0.8 + 0.2 * 0.2)
        (("first", "first"), (0.8, 0.8), 0.64 / 0.68),
        # 0.9 * 0.3 / (0.9 * 0.3 + 0.1 * 0.7)
        (("first", "second"), (0.9, 0.7), 0.27 / 0.34),
        (("second", "first", "tie", "skip"), (0.9, 0.7, 0.6, 0.9), 0.07 / 0.34),
        # Somebody who is right in one of five says the opposite.
        (("first",), (0.2,), 0.2),
    ],
)
def test_reliability_is_the_posterior(
    choices: tuple[Choice, ...], reliabilities: tuple[float, ...], probability: float
) -> None:
    label = reliability(said(*choices), reliabilities)
    assert label is not None
    assert label.preference == (probability > 0.5)
    assert label.weight == pytest.approx(abs(2 * probability - 1))


def test_of_guesses_and_of_votes_that_cancel_nothing_is_learned() -> None:
    assert reliability(said("first"), [0.5]) is None
    assert reliability(said("first", "second"), [0.8, 0.8]) is None
    assert reliability(said("skip", "both_bad"), [0.8, 0.8]) is None
    assert reliability(said("tie"), [0.5]) is None
    tie = reliability(said("tie", "tie"), [0.8, 0.8])
    assert tie is not None
    assert (tie.preference, tie.weight) == (0.5, pytest.approx(2 * 0.64 / 0.68 - 1))


@pytest.mark.parametrize(("choice", "e"), [("first", 0.8), ("second", 0.95), ("first", 0.3)])
def test_the_label_has_crowd_bts_gradient_at_equal_rewards(choice: Choice, e: float) -> None:
    """d/dd of log(e s(d) + (1 - e) s(-d)), and its sign at other differences."""
    label = reliability(said(choice), [e])
    assert label is not None
    towards = 1.0 if label.preference == 1.0 else -1.0

    def log_likelihood(d: float) -> float:
        s = 1.0 / (1.0 + math.exp(-d if choice == "first" else d))
        return math.log(e * s + (1.0 - e) * (1.0 - s))

    def weighted(d: float) -> float:
        return -label.weight * math.log1p(math.exp(-towards * d))

    def gradient(function: object, d: float) -> float:
        return (function(d + 1e-5) - function(d - 1e-5)) / 2e-5  # type: ignore[operator]

    assert gradient(weighted, 0.0) == pytest.approx(gradient(log_likelihood, 0.0), rel=1e-6)
    for d in (-3.0, 3.0):
        assert np.sign(gradient(weighted, d)) == np.sign(gradient(log_likelihood, d))


def test_a_new_rater_is_right_in_eight_of_ten_and_one_answer_moves_little() -> None:
    assert UNKNOWN[0] == PRIOR == 0.8
    alone = reliability_of([("ann", 1, "first"), ("ann", 2, "tie"), ("bob", 3, "skip")])
    assert alone == {"ann": UNKNOWN, "bob": UNKNOWN}, "nobody else judged them"
    for choice, e in (("first", 9 / 11), ("second", 8 / 11), ("tie", 8.5 / 11)):
        found = reliability_of([("ann", 1, choice)], gold=[1])  # type: ignore[list-item]
        assert found["ann"][0] == pytest.approx(e)


def test_gold_questions_are_beta_counts() -> None:
    """Of 20, 12 are right: Beta(8 + 12, 2 + 8), with its mean and quantiles."""
    judgments: list[Judgment] = [("ann", i, "first" if i < 12 else "second") for i in range(20)]
    e, low, high = reliability_of(judgments, range(20))["ann"]
    draws = np.random.default_rng(0).beta(20, 10, 400_000)
    assert e == pytest.approx(20 / 30)
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=2e-3)


def test_the_estimate_is_its_own_consequence() -> None:
    """By brute force: each e is (8 + expected right) / (10 + judged) of what all e say."""
    judgments: list[Judgment] = [
        *(("ann", i, "first") for i in range(6)),
        *(("bob", i, "first" if i != 3 else "second") for i in range(6)),
        *(("eve", i, "first" if i % 2 else "second") for i in range(6)),
        ("bob", 7, "second"),  # alone
    ]
    found = {rater: e for rater, (e, _, _) in reliability_of(judgments).items()}
    right = dict.fromkeys(found, 0.0)
    for question in range(6):
        here = [(rater, choice) for rater, key, choice in judgments if key == question]
        likelihood = [
            math.prod(found[r] if c == better else 1 - found[r] for r, c in here)
            for better in ("first", "second")
        ]
        p = likelihood[0] / sum(likelihood)
        for rater, choice in here:
            right[rater] += p if choice == "first" else 1 - p
    assert found == pytest.approx({r: (8 + right[r]) / 16 for r in found}, abs=1e-6)
    assert found["ann"] > found["bob"] > found["eve"]


def test_a_simulation_finds_who_guesses() -> None:
    """Four raters, 600 questions that three of them judge; the truth of none is told."""
    rng = np.random.default_rng(3)
    true = {"ann": 0.95, "bob": 0.8, "carol": 0.7, "eve": 0.5}
    judgments: list[Judgment] = []
    for key in range(600):
        first_is_better = rng.random() < 0.5
        for rater in rng.choice(list(true), 3, replace=False):
            is_right = rng.random() < true[rater]
            judgments.append(
                (str(rater), key, "first" if is_right == first_is_better else "second")
            )
    found = reliability_of(judgments)
    for rater, e in true.items():
        estimate, low, high = found[rater]
        assert low < e < high, (rater, found)
        assert low < estimate < high
        assert high - low < 0.16
    label = reliability(said("first"), [found["eve"][0]])
    assert label is None or label.weight < 0.12
    assert reliability(said("first"), [found["ann"][0]]).weight > 0.75  # type: ignore[union-attr]
