"""Labels to fixed win rates, beside whichever form of online DPO needs fewest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studies.bandit.results import Curves
from studies.language_models.levels import levels_part, ratios_to_online_dpo

QUERIES = np.array([0.0, 100.0, 200.0])


def curves(*win_rates: list[float], first_seed: int = 0) -> Curves:
    seeds = np.arange(first_seed, first_seed + len(win_rates))
    return Curves(QUERIES, seeds, {"win_rate": np.array(win_rates)})


def test_ratios_by_hand():
    """0.7 on the way from 0.5 to 0.9 is after 50 labels, from 0.5 to 0.8 in 200 after 133.3."""
    win_rates = {
        "passive": np.array([[0.5, 0.55, 0.6]]),
        "passive, 64 a round": np.array([[0.5, 0.65, 0.8]]),
        "bai_ts": np.array([[0.5, 0.9, 0.9]]),
        "random": np.array([[0.5, 0.5, 0.6]]),
    }
    needed, ratios = ratios_to_online_dpo(0.7, win_rates, QUERIES)
    assert needed == pytest.approx([math.inf, 400 / 3, 50, math.inf])
    assert ratios == pytest.approx([math.inf, 1, 0.375, math.inf])
    # No online DPO gets to 0.85, which one method does: 0, "alone".
    _, ratios = ratios_to_online_dpo(0.85, win_rates, QUERIES)
    assert ratios == pytest.approx([math.inf, math.inf, 0, math.inf])


def test_a_table_for_each_set_of_seeds():
    runs = {
        "passive": curves([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.5, 0.6, 0.7]),
        "bai_ts": curves([0.5, 0.8, 0.8], [0.5, 0.7, 0.9], [0.5, 0.75, 0.85]),
        "random": curves([0.5, 0.6, 0.76], [0.5, 0.66, 0.7]),
    }
    part = levels_part(runs, {"passive": 4e-4, "bai_ts": 8e-4, "random": 1e-3})
    three, two = part.split("Seeds 0, 1. ")
    # Mean win rates 0.6 and 0.7 in each seed.
    assert "| BAI-TS | 0.0008 | 0.700 | +0.100 +- 0.000 (3 of 3) | 60; 0.40 [0.33, 0.50] |" in three
    assert "random" not in three
    # Differences of 0.02 and 0.02, then all three methods on two seeds.
    assert "| random | 0.001 | 0.620 | +0.020 +- 0.000 (2 of 2) |" in two
    assert "| BAI-TS |" in two
    assert "alone [alone, alone]" in three  # to 0.8, where online DPO never is
