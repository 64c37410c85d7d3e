"""Intervals of win rates and means, worked by hand."""

import math

import pytest

from rllib_sea.statistics import hard_win_rate, mean_estimate


def test_ties_count_half() -> None:
    assert hard_win_rate([0.9, 0.5, 0.2, 0.5]).mean == 0.5


def test_wilson_interval_of_eight_wins_in_ten() -> None:
    """The textbook value for 8 of 10 at 95%: (0.4902, 0.9433)."""
    estimate = hard_win_rate([0.9] * 8 + [0.1] * 2)
    assert estimate.mean == 0.8
    assert estimate.low == pytest.approx(0.4902, abs=1e-4)
    assert estimate.high == pytest.approx(0.9433, abs=1e-4)


def test_the_interval_stays_inside_zero_and_one() -> None:
    estimate = hard_win_rate([1.0] * 5)
    assert estimate.high == pytest.approx(1.0)
    assert 0 < estimate.low < 1


def test_mean_with_its_normal_interval() -> None:
    """(1, 2, 3): mean 2, standard deviation 1, half-width 1.96 / sqrt(3)."""
    estimate = mean_estimate([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0
    assert estimate.high - 2.0 == pytest.approx(1.959964 / math.sqrt(3), abs=1e-5)


def test_one_value_has_no_interval() -> None:
    assert math.isnan(mean_estimate([1.0]).low)
