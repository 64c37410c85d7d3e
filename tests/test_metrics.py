"""A round's metrics, each against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from rllib_sea.duels.rounds import Measurement
from rllib_sea.metrics import duel_metrics, oracle_metrics, skip_metrics
from rllib_sea.reward_model.health import CalibrationWindow
from rllib_sea.reward_model.round_metrics import reward_model_metrics
from tests.helpers.round_cases import proposal, selected
from text_duel.verdicts import Label

NAN = math.nan
LOG3 = math.log(3.0)


def test_duel_metrics_by_hand() -> None:
    """Lengths 2, 1, 3, 2, of which "a." and "bb." ended by themselves; real scores 1, 3, 0, 4."""
    first = proposal(("a.", "b"), np.zeros((2, 2)), position=0)
    second = proposal(("bb.", "cc"), np.zeros((2, 2)), position=1)
    pairs = [
        selected(first, clash=True),
        selected(second),
        selected(second, synthetic=True),
        selected(first),
    ]
    duels = [
        pairs[0].labelled(0, Label(1.0), 0.9, (1.0, 3.0)),
        pairs[1].labelled(0, Label(0.0), 0.1, (0.0, 4.0)),
        pairs[2].labelled(0),
        pairs[3].labelled(0, Label(1.0), 0.9),
    ]
    assert duel_metrics([first, second], pairs, duels) == {
        "finished_share": 0.5,
        "response_length": 2.0,
        "clash_rate": 0.25,
        "mean_score": 2.0,
    }


def test_what_a_round_did_not_have_is_left_out() -> None:
    case = proposal(("a", "b"), np.zeros((2, 2)))
    assert duel_metrics([], [], []) == {}
    assert set(duel_metrics([case], [], [])) == {"finished_share", "response_length"}
    pair = selected(case, synthetic=True)
    assert "mean_score" not in duel_metrics([case], [pair], [pair.labelled(0)])
    assert oracle_metrics([], Measurement()) == {}
    assert oracle_metrics([pair], Measurement()) == {}
    assert oracle_metrics([pair], Measurement(online_wins=[NAN, NAN])) == {}


def test_skipped_prompts_in_all_and_by_the_reason() -> None:
    assert skip_metrics({"incomplete": ["a", "b"], "non_finite": [], "one_text": ["c"]}) == {
        "num_skipped": 3.0,
        "num_skipped_incomplete": 2.0,
        "num_skipped_non_finite": 0.0,
        "num_skipped_one_text": 1.0,
    }


def test_online_win_rates_by_hand_without_prompts_without_a_reference() -> None:
    """Won, lost, a tie for half; the mean of 0.8, 0.3 and 0.5."""
    metrics = oracle_metrics([], Measurement(online_wins=[0.8, NAN, 0.3, 0.5, NAN]))
    assert metrics["online_win_rate"] == pytest.approx(0.5)
    assert metrics["online_win_rate_soft"] == pytest.approx(1.6 / 3)


def test_regret_and_the_accuracy_of_synthetic_labels_by_hand() -> None:
    """Real: 5 - (1 + 5) / 2 = 2, and 4 - (2 + 3) / 2 = 1.5, though neither is the best.

    Synthetic: right, wrong, right, and two equal scores, which say nothing.
    """
    case = proposal(("a", "b", "c"), np.zeros((2, 3)))
    pairs = [
        selected(case, 0, 1),
        selected(case, 0, 1, synthetic=True, own_preference=1.0),
        selected(case, 2, 1),
        selected(case, 0, 1, synthetic=True, own_preference=1.0),
        selected(case, 2, 0, synthetic=True, own_preference=0.0),
        selected(case, 0, 1, synthetic=True, own_preference=1.0),
    ]
    scores = [
        np.array([1.0, 5.0, 0.0]),
        np.array([3.0, 1.0, 9.0]),
        np.array([4.0, 3.0, 2.0]),
        np.array([1.0, 3.0, 9.0]),
        np.array([5.0, 0.0, -1.0]),
        np.array([2.0, 2.0, 9.0]),
    ]
    assert oracle_metrics(pairs, Measurement(pool_scores=scores)) == {
        "pool_regret": pytest.approx(1.75),
        "sum_pool_regret": pytest.approx(3.5),
        "synthetic_label_accuracy": pytest.approx(2 / 3),
    }


def test_reward_model_metrics_by_hand() -> None:
    """Two members: logits (ln 3, 0) won, (ln 3, -ln 3) lost, (-ln 3, -ln 3) lost.

    Probabilities of the first: (3/4, 1/2), (3/4, 1/4), (1/4, 1/4). Of what came: (3/4, 1/2),
    (1/4, 3/4), (3/4, 3/4), mean 15/24. Mean margins ln 3 / 2, 0 and ln 3: two of three are
    right, as 0 predicts nothing. Standard deviations 1/8, 1/4, 0, mean 1/8.

    Calibration: means 5/8, 1/2, 1/4. Confidences 5/8 right, 1/2 wrong, 3/4 right, each in a bin
    of its own: gaps 3/8, 1/2, 1/4, mean 3/8.

    Favourites: prompts 0 and 2 are shared by both members, prompt 1 is split: (1 + 1/2 + 1) / 3.
    """
    cases = [
        proposal(("a", "b"), [[LOG3, 0], [0.0, 0.0]], position=0),
        proposal(("a", "b"), [[LOG3, 0], [-LOG3, 0.0]], position=1),
        proposal(("a", "b"), [[-LOG3, 0], [-LOG3, 0.0]], position=2),
    ]
    wins = (True, False, False)
    duels = [
        selected(case).labelled(0, Label(float(won)), 0.5)
        for case, won in zip(cases, wins, strict=True)
    ]
    calibration = CalibrationWindow()
    assert reward_model_metrics(cases, duels, calibration) == {
        "accuracy_on_new_labels": pytest.approx(2 / 3),
        "probability_of_new_labels": pytest.approx(15 / 24),
        "calibration_error": pytest.approx(3 / 8),
        "member_disagreement": pytest.approx(1 / 8),
        "argmax_agreement": pytest.approx(2.5 / 3),
    }
    # The next round's error is that of both rounds.
    again = reward_model_metrics(cases, duels[:1], calibration)
    assert again["calibration_error"] == pytest.approx((2 * 3 / 8 + 1 / 2 + 1 / 4) / 4)


def test_a_tie_counts_for_the_members_disagreement_alone() -> None:
    """The first duel of the test above and a tie of standard deviation 1/4: mean 3/16."""
    won = proposal(("a", "b"), [[LOG3, 0], [0.0, 0.0]])
    tied = proposal(("a", "b"), [[LOG3, 0], [-LOG3, 0.0]])
    duels = [
        selected(won).labelled(0, Label(1.0), 0.9),
        dataclasses.replace(selected(tied).labelled(0), label=Label(0.5)),
    ]
    calibration = CalibrationWindow()
    assert reward_model_metrics([], duels[1:], calibration) == {
        "member_disagreement": pytest.approx(1 / 4)
    }
    assert math.isnan(calibration.error())
    assert reward_model_metrics([], duels, calibration) == {
        "accuracy_on_new_labels": 1.0,
        "probability_of_new_labels": pytest.approx(5 / 8),
        "calibration_error": pytest.approx(3 / 8),
        "member_disagreement": pytest.approx(3 / 16),
    }


def test_a_label_in_doubt_counts_for_the_side_that_it_prefers() -> None:
    case = proposal(("a", "b"), [[LOG3, 0], [LOG3, 0.0]])
    for preference, right in ((0.7, 1.0), (0.3, 0.0)):
        duel = dataclasses.replace(selected(case).labelled(0), label=Label(preference, 9.0))
        metrics = reward_model_metrics([], [duel], CalibrationWindow())
        assert metrics["accuracy_on_new_labels"] == right


def test_an_ensemble_of_one_and_a_round_without_labels() -> None:
    case = proposal(("a", "b"), [[LOG3, 0.0]])
    duel = selected(case).labelled(0, Label(1.0), 0.9)
    assert set(reward_model_metrics([case], [duel], CalibrationWindow())) == {
        "accuracy_on_new_labels",
        "probability_of_new_labels",
        "calibration_error",
    }
    calibration = CalibrationWindow()
    two = proposal(("a", "b"), [[1, 0], [1, 0]])
    assert reward_model_metrics([two], [], calibration) == {"argmax_agreement": 1.0}
    assert reward_model_metrics([], [], calibration) == {}
    assert math.isnan(calibration.error())
