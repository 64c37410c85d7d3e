"""What the next labels are expected to bring: numbers by hand, and curves that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_sea.reward_model.forecast import (
    ERROR_SD,
    MAX_POINTS,
    NUM_DRAWS,
    EvaluatedPolicies,
    confidence_scale,
    expected_gain,
    forecast,
    in_words,
    is_enough,
    win_rate_draws,
)
from rllib_sea.statistics import Z_95


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.asarray(x)))


def test_without_labels_the_scale_is_one() -> None:
    assert confidence_scale(np.empty(0), np.empty(0, dtype=bool)) == (1.0, 0.5)


def test_a_scale_by_hand() -> None:
    """Where the slope is 0: ``n l (share - sigmoid(a l)) = (a - 1) / 0.25``."""
    logit, wins, num = 0.5, 70, 100
    outcomes = np.arange(num) < wins
    scale, sd = confidence_scale(np.full(num, sigmoid(logit)), outcomes)
    fitted = float(sigmoid(scale * logit))
    assert num * logit * (wins / num - fitted) == pytest.approx((scale - 1.0) / 0.25, abs=1e-6)
    assert sd == pytest.approx((num * logit**2 * fitted * (1 - fitted) + 4.0) ** -0.5)
    assert 1.0 < scale < math.log(7 / 3) / logit


def test_an_erm_that_is_wrong_has_no_opinion_left() -> None:
    scale, _ = confidence_scale(np.full(1000, 0.9), np.zeros(1000, dtype=bool))
    assert scale == 0.0


def test_one_member_and_one_prompt_leave_nothing_to_draw() -> None:
    rewards = np.array([[[2.0], [5.0], [2.0]]])
    draws = win_rate_draws(rewards, (0.5, 0.0), rng())
    assert draws == pytest.approx(np.tile([0.5, sigmoid(1.5), 0.5], (NUM_DRAWS, 1)))


def test_draws_spread_over_members_prompts_and_scales() -> None:
    def spread(rewards: np.ndarray, sd: float = 0.0) -> float:
        return float(win_rate_draws(rewards, (1.0, sd), rng())[:, 1].std())

    start = np.zeros((2, 1, 2))
    alike = np.concatenate([start, np.ones((2, 1, 2))], axis=1)
    assert spread(alike) == pytest.approx(0.0)
    assert spread(alike, sd=0.2) > 0.03
    members, prompts = alike.copy(), alike.copy()
    members[1, 1], prompts[:, 1, 1] = -1.0, -1.0
    assert spread(members) == pytest.approx((sigmoid(1.0) - 0.5), rel=0.05)
    # Of two prompts drawn: both, the first twice, the second twice.
    assert spread(prompts) == pytest.approx((sigmoid(1.0) - 0.5) / math.sqrt(2), rel=0.1)


def curve(labels: np.ndarray, slope: float) -> np.ndarray:
    """Every draw the same straight line of logits."""
    return np.tile(sigmoid(slope * labels), (NUM_DRAWS, 1))


def test_a_line_of_logits_is_gone_on_with_exactly() -> None:
    labels = np.arange(0.0, 1001.0, 50.0)
    gain = expected_gain(labels, curve(labels, 0.002), 100.0, rng())
    assert gain is not None
    assert gain.mean == pytest.approx(float(sigmoid(2.2) - sigmoid(2.0)))
    assert gain.low < gain.mean < gain.high
    # Of the eleven evaluations from 500 on those until 900 have the next tenth behind them; they
    # were foretold nearly exactly (between evaluations the curve is taken as straight).
    expected = Z_95 * ERROR_SD * math.sqrt(2 / (2 + 9))
    assert (gain.high - gain.low) / 2 == pytest.approx(expected, rel=0.2)


def test_a_curve_that_was_foretold_badly_has_a_wide_interval() -> None:
    labels = np.arange(0.0, 1001.0, 50.0)
    zigzag = curve(labels, 0.002) + 0.05 * (-1.0) ** np.arange(len(labels))
    smooth, rough = (expected_gain(labels, w, 100.0, rng()) for w in (curve(labels, 0.002), zigzag))
    assert smooth is not None
    assert rough is not None
    assert rough.high - rough.low > 3 * (smooth.high - smooth.low)


@pytest.mark.parametrize("true", ["power", "late"])
def test_known_curves_are_foretold(true: str) -> None:
    """A power law, and a curve that stays flat first: the truth is within the interval."""
    labels = np.arange(0.0, 3001.0, 100.0)

    def wins(n: np.ndarray | float) -> np.ndarray:
        if true == "power":
            return 1.0 - 0.5 * np.maximum(1.0, np.asarray(n) / 200.0) ** -0.7
        return 0.5 + 0.4 * sigmoid((np.asarray(n) - 2000.0) / 300.0)

    for num in range(8, len(labels) + 1):
        now = labels[num - 1]
        noise = 0.01 * rng().standard_normal((NUM_DRAWS, num))
        gain = expected_gain(labels[:num], wins(labels[:num]) + noise, now / 10, rng())
        assert gain is not None
        came = float(wins(1.1 * now) - wins(now))
        assert gain.low < came < gain.high
        assert abs(gain.mean - came) < 0.025


def test_two_evaluations_and_the_start_are_the_least() -> None:
    assert expected_gain(np.array([0.0, 8.0]), curve(np.array([0.0, 8.0]), 0.1), 1, rng()) is None
    three = np.array([0.0, 8.0, 16.0])
    assert expected_gain(three, curve(three, 0.1), 2, rng()) is not None
    # Rounds without a label: nothing can be said per label.
    still = np.zeros(3)
    assert expected_gain(still, curve(still, 0.1), 1, rng()) is None


def features(num_prompts: int, value: float) -> np.ndarray:
    return np.full((num_prompts, 2, 1), [[value], [0.0]], dtype=np.float32)


def test_policies_are_kept_as_long_as_they_are_of_use() -> None:
    policies = EvaluatedPolicies()
    for labels in range(10, 1010, 10):
        policies.add(labels, ["a", "b"], features(2, labels))
        assert policies.labels[-1] == labels
        assert policies.features.shape == (len(policies) + 1, 2, 1)
    assert len(policies) <= MAX_POINTS
    assert policies.labels[0] == 0.0
    assert policies.labels[1] >= 1000 / 3
    # The initial policy's response, then each one's own.
    assert policies.features[:, 0, 0].tolist() == policies.labels.tolist()
    other = EvaluatedPolicies()
    other.set_state(policies.get_state())
    assert (other.features == policies.features).all()
    other.add(1010, ["a", "c"], features(2, 1.0))
    assert other.labels.tolist() == [0.0, 1010.0]


def test_a_forecast_and_its_sentence() -> None:
    policies = EvaluatedPolicies()
    policies.add(40, ["a"], features(1, 0.4))
    said = forecast(policies, policies.features[None, :, :, 0], NOBODY, rng())
    assert set(said) == {f"estimated_win_rate{end}" for end in ("", "_low", "_high")}
    assert said["estimated_win_rate"] == pytest.approx(float(sigmoid(0.4)), abs=0.01)
    assert in_words(said).startswith(
        "The reward model's estimate of the win rate over the initial policy: 0.59"
    )
    for labels, value in ((80, 0.8), (120, 1.2)):
        policies.add(labels, ["a"], features(1, value))
    said = forecast(policies, policies.features[None, :, :, 0], NOBODY, rng())
    assert said["next_labels"] == 12.0
    assert said["expected_gain_low"] < said["expected_gain"] < said["expected_gain_high"]
    assert "; 12 more labels are expected to add +0.01" in in_words(said)


def test_it_is_enough_only_where_the_policy_has_climbed() -> None:
    said = {"estimated_win_rate_low": 0.7}
    assert not is_enough(said, 0.5)
    said["expected_gain_high"] = 0.015
    assert is_enough(said, 0.02)
    assert not is_enough(said, 0.015)
    assert not is_enough(said | {"estimated_win_rate_low": 0.55}, 0.02)


NOBODY = (np.empty(0), np.empty(0, dtype=bool))
