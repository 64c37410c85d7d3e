"""Whether raters agree: numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rllib_sea.preference_log.agreement import agreement, cohen_kappa, krippendorff_alpha
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog, PreferenceReader
from rllib_sea.preference_log.statistics import log_statistics
from rllib_sea.statistics import Estimate
from tests.helpers.preference_log_cases import RUN, give, question
from text_duel.verdict_rules import UNKNOWN
from text_duel.verdicts import Choice, Verdict

ANN: dict[int, Choice] = {1: "first", 2: "first", 3: "second", 4: "second", 5: "tie"}
BOB: dict[int, Choice] = {1: "first", 2: "second", 3: "second", 4: "second", 6: "tie"}


def test_kappa_by_hand() -> None:
    """Four shared: 3 agree; by chance 2/4 * 1/4 + 2/4 * 3/4 = 1/2."""
    assert cohen_kappa(ANN, BOB) == pytest.approx((3 / 4 - 1 / 2) / (1 / 2))
    assert cohen_kappa(ANN, ANN) == 1.0
    assert math.isnan(cohen_kappa({1: "tie"}, {1: "tie"}))
    assert math.isnan(cohen_kappa({1: "tie"}, {2: "tie"}))


def test_alpha_by_hand() -> None:
    """Eight values in four pairs, 3 first and 5 second: 2 of 8 disagree, by chance 30 of 56."""
    alpha, why = krippendorff_alpha([ANN, BOB])
    assert (alpha, why) == (pytest.approx(1 - (2 / 8) / (2 * 3 * 5 / (8 * 7))), "")
    assert krippendorff_alpha([ANN]) == (None, "no question has two judgments: set overlap")
    same: dict[int, Choice] = {1: "first"}
    assert krippendorff_alpha([same, same])[1].startswith("all judgments are the same")


def test_a_log(tmp_path: Path) -> None:
    with PreferenceLog(tmp_path / LOG_FILE, RUN) as log:
        log.ask(0, [question(0, i) for i in range(6)])

        def said(judgments: dict[int, Choice], left: dict[int, str]) -> dict[int, Verdict]:
            return {
                key - 1: Verdict(choice, seconds=float(key), shown_first=left.get(key, "first"))  # type: ignore[arg-type]
                for key, choice in judgments.items()
            }

        give(log, 0, said(ANN, {2: "second"}), "ann")
        give(log, 0, said({**BOB, 5: "skip"}, {}), "bob")
    with PreferenceReader(tmp_path / LOG_FILE) as reader:
        found = agreement(reader.read())
    assert found.num_shared == 4
    assert found.kappas == {("ann", "bob"): (pytest.approx(0.5), 4)}
    ann, bob = found.raters["ann"], found.raters["bob"]
    assert (ann.seconds, bob.seconds) == (3.0, 3.5)
    assert ann.left is not None
    assert ann.left.mean == pytest.approx(1 / 4), "of four decisions one for the left"
    assert ann.left.low < 0.25 < ann.left.high
    assert bob.choices == {"first": 1, "second": 3, "tie": 1, "skip": 1}
    assert found.strategies["bai_ts"].total() == 11


def test_how_well_raters_judge(tmp_path: Path) -> None:
    """Five gold questions, two repeats, and answers that nobody can have read."""
    with PreferenceLog(tmp_path / LOG_FILE, RUN) as log:
        labels = [entry.id for entry in log.ask(0, [question(0, i) for i in range(3)])]
        gold = log.ask(0, [question(0, i, purpose="gold") for i in range(5)], "gold")
        log.ask(0, [question(0, i, purpose="evaluation") for i in range(2)], "evaluation")
        log.give("ann", {key: Verdict("first", seconds=4.0) for key in labels})
        choices = ("first", "first", "tie", "second", "skip")
        given = zip(gold, choices, strict=True)
        log.give("ann", {entry.id: Verdict(choice) for entry, choice in given})
        log.give("ann", {entry.id: Verdict("second") for entry in log.round(0, "evaluation")})
        # Six words in two responses: ten a second are too many, in 0.5 s.
        log.give("ann", {log.repeat(labels[0]): Verdict("first", seconds=0.5)})
        log.give("ann", {log.repeat(labels[1]): Verdict("tie", seconds=0.7)})
        log.give("bob", {labels[0]: Verdict("skip", seconds=0.1)})
    with PreferenceReader(tmp_path / LOG_FILE) as reader:
        found = agreement(reader.read(None))
        assert log_statistics(reader).num_questions == 3
        assert found.raters["ann"].reliability == Estimate(*reader.reliabilities()["ann"])
    ann, bob = found.raters["ann"], found.raters["bob"]
    assert ann.choices == {"first": 3}
    assert ann.gold is not None
    assert (ann.gold[0].mean, ann.gold[1]) == (2.5 / 4, 4)
    assert ann.reliability.mean == pytest.approx((8 + 2.5) / (10 + 4))
    assert ann.consistency is not None
    assert (ann.consistency[0].mean, ann.consistency[1]) == (0.5, 2)
    assert ann.too_fast == (1, 5)
    assert (bob.gold, bob.consistency, bob.too_fast) == (None, None, (0, 0))
    assert bob.reliability == Estimate(*UNKNOWN)
    assert found.strategies["bai_ts"].total() == 4
