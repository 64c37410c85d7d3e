"""The learning rate, by hand."""

from __future__ import annotations

import math

import pytest

from rllib_sea.policy_update.schedule import controlled_share, learning_rate


def rates(schedule: str, total: int | None, warmup: float, steps: int) -> list[float]:
    return [learning_rate(step, 1.0, schedule, total, warmup) for step in range(steps)]


def test_warm_up_ends_at_the_peak() -> None:
    """A fifth of 10 steps: 1/2, 2/2, and from there on the peak."""
    assert rates("constant", 10, 0.2, 12) == [0.5] + [1.0] * 11


def test_cosine_falls_to_a_tenth_and_stays() -> None:
    """5 steps, no warm-up: 0.1 + 0.9 * (1 + cos(pi i / 4)) / 2."""
    half = math.sqrt(0.5)
    expected = [1.0, 0.1 + 0.45 * (1 + half), 0.55, 0.1 + 0.45 * (1 - half), 0.1, 0.1, 0.1]
    assert rates("cosine", 5, 0.0, 7) == pytest.approx(expected)


def test_warm_up_then_cosine() -> None:
    """Half of 4 steps rise (1/2, 1), the other two fall over the rest: peak, floor."""
    assert rates("cosine", 4, 0.5, 5) == pytest.approx([0.5, 1.0, 1.0, 0.1, 0.1])


def test_no_end_means_a_constant_rate() -> None:
    assert rates("cosine", None, 0.5, 3) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("warmup", [0.0, 0.02, 1.0])
def test_a_run_of_one_step_has_a_rate(warmup: float) -> None:
    assert rates("cosine", 1, warmup, 1) == [1.0]


def test_it_scales_with_the_peak() -> None:
    assert learning_rate(2, 5e-7, "cosine", 5, 0.0) == pytest.approx(0.55 * 5e-7)


def test_the_controller_by_hand() -> None:
    """A tenth above the target: divided by 1.1; far above: by 1.2; below it rises, to 1 at most."""
    assert controlled_share(1.0, 1.1, 1.0) == pytest.approx(1 / 1.1)
    assert controlled_share(0.6, 50.0, 1.0) == pytest.approx(0.5)
    assert controlled_share(0.5, 2.0, 2.0) == 0.5
    assert controlled_share(0.4, 0.0, 3.0) == pytest.approx(0.5)
    assert controlled_share(1.0, 0.0, 3.0) == 1.0


def test_a_policy_that_follows_its_rate_stays_near_a_target_that_grows() -> None:
    """Each step adds 0.1 times the share, the target 0.05: without a controller twice as far."""
    share, kl = 1.0, 0.0
    for step in range(200):
        share = controlled_share(share, kl, 0.05 * (step + 1))
        kl += 0.1 * share
    assert kl == pytest.approx(0.05 * 200, rel=0.1)
