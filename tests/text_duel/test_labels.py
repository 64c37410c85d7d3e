"""Labels: rules by hand, frequencies within a binomial interval."""

import numpy as np
import pytest

from text_duel import ConfigError
from text_duel.labels import LabelRule

N = 4000


def frequency(rule: LabelRule, p: float, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    return sum(rule.draw(p, rng) for _ in range(N)) / N


def assert_within_binomial_interval(measured: float, p: float) -> None:
    """Four standard deviations; the seed is fixed, so this never flickers."""
    assert abs(measured - p) <= 4 * np.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize(("p", "wins"), [(0.0, 0.0), (0.4999, 0.0), (0.5001, 1.0), (1.0, 1.0)])
def test_deterministic_labels_follow_the_larger_probability(p: float, wins: float) -> None:
    assert frequency(LabelRule(), p) == wins


def test_a_deterministic_tie_is_a_fair_coin() -> None:
    assert_within_binomial_interval(frequency(LabelRule(), 0.5), 0.5)


@pytest.mark.parametrize("p", [0.03, 0.5, 0.73, 0.99])
def test_bradley_terry_labels_have_the_probability(p: float) -> None:
    assert_within_binomial_interval(frequency(LabelRule("bradley_terry"), p), p)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_bradley_terry_label_is_certain(p: float) -> None:
    assert frequency(LabelRule("bradley_terry"), p) == p


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_flip_noise_is_the_rate_of_wrong_labels(noise: float) -> None:
    wrong = 1 - frequency(LabelRule("deterministic", noise), 0.9)
    assert_within_binomial_interval(wrong, noise)


def test_noise_and_probability_are_independent() -> None:
    """P(first wins) = p (1 - e) + (1 - p) e: 0.7 * 0.8 + 0.3 * 0.2 = 0.62."""
    assert_within_binomial_interval(frequency(LabelRule("bradley_terry", 0.2), 0.7), 0.62)


def test_every_rule_takes_two_numbers_from_the_generator() -> None:
    for rule in (LabelRule(), LabelRule("bradley_terry"), LabelRule("deterministic", 0.2)):
        for p in (0.5, 0.9):
            rng, twin = np.random.default_rng(3), np.random.default_rng(3)
            rule.draw(p, rng)
            twin.random(2)
            assert rng.bit_generator.state == twin.bit_generator.state


@pytest.mark.parametrize("noise", [-0.1, 0.5, 1, float("nan"), "0.1", True, None])
def test_bad_noise_is_refused(noise) -> None:
    with pytest.raises(ConfigError, match=r"^flip_noise: .* is not a number in \[0, 0.5\)$"):
        LabelRule(flip_noise=noise)


@pytest.mark.parametrize("labels", ["bradly_terry", None, 3, ["deterministic"]])
def test_bad_mode_is_refused(labels) -> None:
    with pytest.raises(ConfigError, match=r"^labels: .* is none of deterministic, bradley_terry"):
        LabelRule(labels)
