"""What the next labels are expected to bring, by the ERM alone: when to stop paying for labels.

At each evaluation the policy's greedy responses to held-out prompts are kept as features, beside
the initial policy's to the same prompts. After every round the ERM, as it is by then, judges all of
them again: a win rate of each policy over the initial one, on one scale. Nobody is asked.

The members are too careful or too sure of themselves. By how much is read off the fresh labels,
each of which they foretold before they learned from it (:func:`confidence_scale`).

What comes next is read off the curve's end: a straight line through the logits of the last win
rates (:func:`expected_gain`). A power law through all of the curve, ``1 - 0.5 (n/a)^(-b)``, fits
curves that rise at once and misses those that stay flat at first, as most do; a line through the
win rates themselves goes on above 1. The interval also has what the same rule was off by, earlier
on the same curve: docs/results/forecast/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rllib_sea.statistics import Estimate

# Of an evaluation's prompts, the first; memory is bounded, and a forecast needs no more.
MAX_PROMPTS = 128
# Evaluations that are kept.
MAX_POINTS = 24
NUM_DRAWS = 256
# Before the policy is surely so far ahead nothing is enough: curves rest before they climb.
CLIMBED = 0.55
# How many labels are "the next": this share of those so far.
NEXT_SHARE = 0.1
# The end of the curve: the last third of the labels, but three evaluations.
END_SHARE, MIN_POINTS = 1 / 3, 3
# Standard deviation of the scale before any label: it is then about 1.
SCALE_SD = 0.5
# What a forecast is believed to be off by before there were any, and as how many that counts.
# Chosen on seeds 100 to 103 of the bandit, which are in no result.
ERROR_SD, ERROR_COUNT = 0.02, 2.0


def confidence_scale(probabilities: np.ndarray, outcomes: np.ndarray) -> tuple[float, float]:
    """By what the ERM's logits must be multiplied to be right as often as they say.

    Platt's scaling without an offset, ``P(first wins) = sigmoid(a logit(p))``, on labels that were
    foretold before they were learned from; ``a`` has a normal prior of mean 1.

    Args:
        probabilities: (N,) foretold probabilities that the first response wins.
        outcomes: (N,) bool, whether it did.

    Returns:
        The most probable scale, at least 0, and its standard deviation.
    """
    p = np.clip(probabilities, 1e-6, 1.0 - 1e-6)
    logits, wins = np.log(p / (1.0 - p)), np.asarray(outcomes, dtype=np.float64)
    scale, precision = 1.0, 1.0 / SCALE_SD**2
    for _ in range(50):  # Newton's steps, cut short so that none leaves the concave part
        fitted = _sigmoid(scale * logits)
        slope = (logits * (wins - fitted)).sum() - (scale - 1.0) / SCALE_SD**2
        precision = (logits**2 * fitted * (1.0 - fitted)).sum() + 1.0 / SCALE_SD**2
        scale = max(0.0, scale + float(np.clip(slope / precision, -0.5, 0.5)))
    return scale, float(precision**-0.5)


def win_rate_draws(
    rewards: np.ndarray, scale: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Win rates of a run's policies over its initial one, as often as the ERM has opinions.

    Each draw has a member, prompts drawn with replacement, and a scale, the same for all policies:
    ``mean_x sigmoid(a (r_k(x, y_t) - r_k(x, y_0)))``. Equal responses count half.

    Args:
        rewards: (K, T, P) of T policies' responses to P prompts; the initial policy's come first.
        scale: See :func:`confidence_scale`.
        rng: The generator.

    Returns:
        (NUM_DRAWS, T); 0.5 for the initial policy.
    """
    num_members, _, num_prompts = rewards.shape
    differences = np.asarray(rewards - rewards[:, :1], dtype=np.float64)
    members = rng.integers(num_members, size=NUM_DRAWS)
    scales = np.maximum(0.0, scale[0] + scale[1] * rng.standard_normal(NUM_DRAWS))
    prompts = rng.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), size=NUM_DRAWS)
    return np.stack(
        [
            _sigmoid(scales[i] * differences[members[i]]) @ (prompts[i] / num_prompts)
            for i in range(NUM_DRAWS)
        ]
    )


def expected_gain(
    labels: np.ndarray, win_rates: np.ndarray, num_next: float, rng: np.random.Generator
) -> Estimate | None:
    """What the next labels are expected to add to the win rate, with a 95% interval.

    Args:
        labels: (T,) at which the policies were evaluated, in order.
        win_rates: (S, T) draws.
        num_next: How many labels.
        rng: The generator.

    Returns:
        None if there are too few evaluations to say.
    """
    curve = win_rates.mean(axis=0)
    gains = _gain(labels, win_rates, labels[-1], num_next)
    if gains is None:
        return None
    errors = []
    # In the half that the end of the curve is like: what came, less what was to be expected.
    for at in labels[labels >= labels[-1] / 2]:
        after = at * (1.0 + NEXT_SHARE)
        foretold = _gain(labels, curve, at, after - at)
        if foretold is not None and after <= labels[-1]:
            came = np.interp([at, after], labels, curve)
            errors.append(came[1] - came[0] - float(foretold))
    variance = (ERROR_COUNT * ERROR_SD**2 + np.square(errors).sum()) / (ERROR_COUNT + len(errors))
    wrong_by = np.sqrt(variance) * rng.standard_normal(len(gains))
    low, high = np.quantile(gains + wrong_by, [0.025, 0.975])
    return Estimate(float(gains.mean()), float(low), float(high))


def is_enough(said: Mapping[str, float], least: float) -> bool:
    """Whether a run may end: its policy has climbed, and the next labels bring little for sure.

    Args:
        said: The metrics of :func:`forecast`.
        least: What the upper end of the gain's interval must be below.
    """
    if "expected_gain_high" not in said:
        return False
    return said["estimated_win_rate_low"] > CLIMBED and said["expected_gain_high"] < least


def in_words(said: Mapping[str, float]) -> str:
    """The metrics of :func:`forecast` as a sentence."""
    text = (
        "The reward model's estimate of the win rate over the initial policy: "
        f"{_text(said, 'estimated_win_rate')}"
    )
    return f"{text}; {gain_in_words(said)}." if "expected_gain" in said else f"{text}."


def gain_in_words(said: Mapping[str, float]) -> str:
    """What the next labels will bring, as a part of a sentence."""
    gain = _text(said, "expected_gain", "+")
    return f"{said['next_labels']:.0f} more labels are expected to add {gain}"


def _text(said: Mapping[str, float], name: str, sign: str = "") -> str:
    low, high = (f"{said[f'{name}_{end}']:{sign}.3f}" for end in ("low", "high"))
    return f"{said[name]:{sign}.3f} [{low}, {high}]"


def _gain(
    labels: np.ndarray, win_rates: np.ndarray, now: float, num_next: float
) -> np.ndarray | None:
    """(...) the step of a line through the logits of the last win rates (..., T) until now."""
    past = labels <= now
    if past.sum() < MIN_POINTS:
        return None
    begin = min(now * (1.0 - END_SHARE), labels[past][-MIN_POINTS])
    end = past & (labels >= begin)
    x = labels[end] - labels[end].mean()
    if not x.any():
        return None
    rates = np.clip(win_rates[..., end], 1e-6, 1.0 - 1e-6)
    logits = np.log(rates / (1.0 - rates))
    slope, level = (logits @ x) / (x @ x), logits.mean(axis=-1)
    here = level + slope * x[-1]
    return _sigmoid(here + slope * num_next) - _sigmoid(here)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


class EvaluatedPolicies:
    """Responses of a run's policies to the same held-out prompts, as the ERM sees them."""

    def __init__(self) -> None:
        self._prompts: tuple[str, ...] = ()
        self._labels: list[int] = []
        self._initial = np.empty((0, 0), dtype=np.float32)
        self._features: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> np.ndarray:
        """(T,) labels that the policies had learned from; the initial one is the first."""
        return np.array([0, *self._labels], dtype=np.float64)

    @property
    def features(self) -> np.ndarray:
        """(T, P, d) of their responses."""
        return np.stack([self._initial, *self._features])

    def add(self, num_labels: int, prompts: Sequence[str], features: np.ndarray) -> None:
        """Adds a policy, and forgets those that are of no use any more.

        Args:
            num_labels: Labels so far.
            prompts: The P prompts. If they are others than before, what was before is forgotten.
            features: (P, 2, d) of its responses and of the initial policy's.
        """
        if tuple(prompts) != self._prompts:
            self._prompts, self._labels, self._features = tuple(prompts), [], []
        self._initial = features[:, 1].copy()
        self._labels.append(num_labels)
        self._features.append(features[:, 0].copy())
        used = [i for i, labels in enumerate(self._labels) if 3 * labels >= num_labels]
        if len(used) > MAX_POINTS:
            used = used[::-2][::-1]
        self._labels = [self._labels[i] for i in used]
        self._features = [self._features[i] for i in used]

    def get_state(self) -> dict[str, Any]:
        """Everything."""
        return {
            "prompts": self._prompts,
            "labels": list(self._labels),
            "initial": self._initial,
            "features": list(self._features),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over :meth:`get_state`."""
        self._prompts = tuple(state["prompts"])
        self._labels = list(state["labels"])
        self._initial = state["initial"]
        self._features = list(state["features"])


def forecast(
    policies: EvaluatedPolicies,
    rewards: np.ndarray,
    predictions: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, float]:
    """What the ERM says of the newest policy, and of what the next labels will bring.

    Args:
        policies: What was evaluated, one policy at least.
        rewards: (K, T, P) of :attr:`EvaluatedPolicies.features`.
        predictions: What :func:`confidence_scale` takes.
        rng: The generator.

    Returns:
        Metrics of the group ``reward_model``: ``estimated_win_rate``, and once there are
        evaluations enough ``expected_gain`` of ``next_labels`` labels, with their intervals.
    """
    labels = policies.labels
    draws = win_rate_draws(rewards, confidence_scale(*predictions), rng)
    low, high = np.quantile(draws[:, -1], [0.025, 0.975])
    rate = Estimate(float(draws[:, -1].mean()), float(low), float(high))
    metrics = rate.named("estimated_win_rate")
    num_next = max(1, round(NEXT_SHARE * labels[-1]))
    gain = expected_gain(labels, draws, num_next, rng)
    if gain is not None:
        metrics |= {"next_labels": float(num_next)} | gain.named("expected_gain")
    return metrics
