"""Intervals for win rates and means: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054  # 97.5% quantile of the standard normal


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """As metrics: the mean under a name, and the ends of its interval beside it."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def wilson_interval(rate: float, num: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a share (JASA 22, 1927).

    Args:
        rate: The share, in [0, 1].
        num: Of how many, at least 1.
    """
    centre = (rate + Z_95**2 / (2 * num)) / (1 + Z_95**2 / num)
    half = Z_95 * math.sqrt(rate * (1 - rate) / num + Z_95**2 / (4 * num**2)) / (1 + Z_95**2 / num)
    return centre - half, centre + half


def is_won(win_probability: float) -> float:
    """1 of a duel that the oracle decides for the response (p > 0.5), 1/2 of a draw, NaN of NaN."""
    if math.isnan(win_probability):
        return math.nan
    return float(win_probability > 0.5) + 0.5 * (win_probability == 0.5)


def hard_win_rate(win_probabilities: Sequence[float]) -> Estimate:
    """Share of duels won, with Wilson's score interval.

    A duel is won if the oracle prefers the response (p > 0.5); p = 0.5 counts half.

    Args:
        win_probabilities: (N,) in [0, 1], N at least 1.
    """
    rate = float(np.mean([is_won(p) for p in win_probabilities]))
    return Estimate(rate, *wilson_interval(rate, len(win_probabilities)))


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean with a normal 95% interval; a single value has no interval (NaN).

    Args:
        values: (N,), N at least 1.
    """
    v = np.asarray(values, dtype=np.float64)
    mean = float(v.mean())
    if len(v) < 2:
        return Estimate(mean, math.nan, math.nan)
    half = Z_95 * float(v.std(ddof=1)) / math.sqrt(len(v))
    return Estimate(mean, mean - half, mean + half)
