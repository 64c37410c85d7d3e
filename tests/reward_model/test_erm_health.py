"""Health of the ensemble: calibration by hand, slow loops, and when the watch speaks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_sea.reward_model.health import (
    CalibrationWindow,
    CollapseWatch,
    argmax_agreement,
    member_disagreement,
    win_probabilities,
)


def test_win_probabilities_and_disagreement_by_hand() -> None:
    """Differences (0, ln 3) and (ln 3, -ln 3): sigmoids (1/2, 3/4) and (3/4, 1/4)."""
    log3 = math.log(3.0)
    rewards = np.array([[[5.0, log3], [5.0, 0.0]], [[log3, 1.0], [0.0, 1.0 + log3]]])
    np.testing.assert_allclose(win_probabilities(rewards), [[0.5, 0.75], [0.75, 0.25]])
    assert member_disagreement(rewards) == pytest.approx((0.125 + 0.25) / 2)


def test_win_probabilities_at_extreme_rewards_are_finite() -> None:
    rewards = np.array([[[1e4], [-1e4]], [[-1e4], [1e4]]], dtype=np.float32)
    assert win_probabilities(rewards).tolist() == [[1.0], [0.0]]


def test_an_ensemble_of_one_and_no_duels_have_no_disagreement() -> None:
    assert math.isnan(member_disagreement(np.zeros((3, 2, 1))))
    assert math.isnan(member_disagreement(np.zeros((0, 2, 5))))
    assert math.isnan(argmax_agreement(np.zeros((1, 2, 3)), np.array([[0, 1, 2]] * 2)))


def test_agreement_counts_favourite_texts_not_places() -> None:
    """Prompt 0: places 0, 2, 1 of which 0 and 2 are one text: 2/3. Prompt 1: 3/3."""
    rewards = np.zeros((3, 2, 3))
    rewards[[0, 1, 2], 0, [0, 2, 1]] = 1.0
    rewards[:, 1, 2] = 1.0
    texts = np.array([[0, 1, 0], [0, 1, 2]])
    assert argmax_agreement(rewards, texts) == pytest.approx((2 / 3 + 1) / 2)


def test_agreement_beside_a_slow_loop_and_without_prompts_of_one_text() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(7, 20, 4))
    texts = rng.integers(0, 2, size=(20, 4))
    shares = []
    for b in range(20):
        if len(set(texts[b].tolist())) == 1:
            continue
        liked = [int(texts[b, rewards[k, b].argmax()]) for k in range(7)]
        shares.append(max(liked.count(text) for text in liked) / 7)
    assert 10 < len(shares) < 20
    assert argmax_agreement(rewards, texts) == pytest.approx(np.mean(shares))
    assert math.isnan(argmax_agreement(rewards, np.zeros((20, 4), dtype=int)))


def test_calibration_error_by_hand() -> None:
    """Bins of width 0.05 from 0.5: {0.52, 0.54}, {0.8, right of 0.2}, {0.99}.

    First: confidence 0.53, half right: gap 0.03, twice. Second: 0.8, 2 of 2 right: 0.2, twice.
    Third: 0.99, wrong: 0.99, once. Sum (0.06 + 0.4 + 0.99) / 5.
    """
    window = CalibrationWindow()
    assert math.isnan(window.error())
    window.add(np.array([0.52, 0.54, 0.81]), np.array([True, False, True]))
    window.add(np.array([0.19 + 0.02, 0.01]), np.array([False, True]))
    expected = (2 * 0.03 + (1 - 0.81) + (1 - 0.79) * 1 + 0.99) / 5
    # 0.81 lies in the bin from 0.8, 0.79 in the one below.
    assert window.error() == pytest.approx(expected)


def test_calibration_beside_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    probabilities, outcomes = rng.random(400), rng.random(400) < 0.6
    window = CalibrationWindow(size=400)
    window.add(probabilities, outcomes)
    error = 0.0
    for low in np.linspace(0.5, 0.95, 10):
        inside = [
            (max(p, 1 - p), (p > 0.5) == won)
            for p, won in zip(probabilities, outcomes, strict=True)
            if low <= max(p, 1 - p) < low + 0.05
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            error += len(inside) / 400 * abs(right - confidence)
    assert window.error() == pytest.approx(error)


def test_probabilities_of_one_and_a_half_have_bins() -> None:
    window = CalibrationWindow()
    window.add(np.array([1.0, 0.0, 0.5]), np.array([True, False, True]))
    assert window.error() == pytest.approx(0.5 / 3)


def test_the_window_slides_and_its_state_is_everything() -> None:
    window = CalibrationWindow(size=3)
    window.add(np.full(5, 0.9), np.zeros(5, dtype=bool))
    assert window.error() == pytest.approx(0.9)
    window.add(np.full(3, 0.9), np.ones(3, dtype=bool))
    assert window.error() == pytest.approx(0.1)
    copy = CalibrationWindow(size=3)
    copy.set_state(window.get_state())
    for one in (window, copy):
        one.add(np.array([0.9]), np.array([False]))
        assert one.error() == pytest.approx(abs(2 / 3 - 0.9))


def test_a_calibrated_predictor_has_a_small_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(20_000)
    calibrated, bold = CalibrationWindow(20_000), CalibrationWindow(20_000)
    outcomes = rng.random(20_000) < probabilities
    calibrated.add(probabilities, outcomes)
    bold.add(np.where(probabilities > 0.5, 0.99, 0.01), outcomes)
    assert calibrated.error() < 0.02
    assert bold.error() == pytest.approx(0.99 - 0.75, abs=0.02)


COLLAPSED, HEALTHY = (0.99, 0.001), (0.6, 0.1)


def spoken(rounds: list[tuple[float, float]], watch: CollapseWatch | None = None) -> list[int]:
    """The rounds in which the watch says something."""
    watch = watch or CollapseWatch()
    return [i for i, figures in enumerate(rounds) if watch.update(*figures) is not None]


def test_the_watch_speaks_once_per_collapse() -> None:
    assert spoken([COLLAPSED] * 10) == [2]
    assert spoken([COLLAPSED] * 2 + [HEALTHY] + [COLLAPSED] * 2) == []
    assert spoken([COLLAPSED] * 4 + [HEALTHY] + [COLLAPSED] * 4) == [2, 7]


def test_neither_sign_alone_is_a_collapse() -> None:
    assert spoken([(0.99, 0.1)] * 5) == []
    assert spoken([(0.3, 0.001)] * 5) == []


def test_rounds_that_say_nothing_are_not_counted() -> None:
    nothing = (float("nan"), float("nan"))
    assert spoken([COLLAPSED, nothing, COLLAPSED, nothing, nothing, COLLAPSED]) == [5]
    assert spoken([nothing] * 10) == []


def test_the_warning_says_what_was_seen_and_what_to_try() -> None:
    watch = CollapseWatch()
    warning = [watch.update(0.987, 0.0021) for _ in range(3)][-1]
    assert warning is not None
    for part in (
        "0.987",
        "0.0021",
        "erm_lambda",
        "erm_lambda_fades",
        "erm_prior_scale",
        "ensemble_size",
        "erm_bootstrap",
    ):
        assert part in warning
    assert "\n" not in warning


def test_a_restored_watch_goes_on_counting() -> None:
    watch, copy = CollapseWatch(), CollapseWatch()
    assert spoken([COLLAPSED] * 2, watch) == []
    copy.set_state(watch.get_state())
    assert spoken([COLLAPSED] * 3, copy) == [0]
    again = CollapseWatch()
    again.set_state(copy.get_state())
    assert spoken([COLLAPSED] * 3, again) == []
