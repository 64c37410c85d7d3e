"""From a win probability to a label."""

from __future__ import annotations

import numpy as np

from text_duel.errors import ConfigError, nearest

LABEL_MODES = ("deterministic", "bradley_terry")


def label(
    win_probability: float,
    rng: np.random.Generator,
    mode: str = "deterministic",
    flip_noise: float = 0.0,
) -> bool:
    """Draws who wins a duel.

    Always takes exactly two uniform numbers u, v from the generator, so that a change of mode or
    noise does not shift what is drawn after it.

    - ``deterministic``: the first wins if p > 0.5; at exactly 0.5 if u < 0.5.
    - ``bradley_terry``: the first wins if u < p, that is z ~ Bernoulli(p) as in the paper.

    Then the label is turned round if v < flip_noise.

    Args:
        win_probability: p, the probability that the first response is preferred, in [0, 1].
        rng: The source of u and v.
        mode: One of ``LABEL_MODES``.
        flip_noise: The probability of a wrong label, in [0, 0.5).

    Returns:
        Whether the first response wins.

    Raises:
        ValueError: ``win_probability`` is no probability.
        ConfigError: Unknown mode, or noise out of range.
    """
    check_label_options(mode, flip_noise)
    if not 0.0 <= win_probability <= 1.0:  # false for NaN, too
        raise ValueError(f"win_probability {win_probability!r} is outside [0, 1]")
    u, v = rng.random(2)
    if mode == "bradley_terry":
        first_wins = u < win_probability
    elif win_probability == 0.5:
        first_wins = u < 0.5
    else:
        first_wins = win_probability > 0.5
    return bool(first_wins) != bool(v < flip_noise)


def check_label_options(mode: str, flip_noise: float) -> None:
    """Raises ConfigError unless mode and noise are valid (see :func:`label`)."""
    if mode not in LABEL_MODES:
        raise ConfigError(
            f"labels: {mode!r} is none of {', '.join(LABEL_MODES)}{nearest(str(mode), LABEL_MODES)}"
        )
    if isinstance(flip_noise, bool) or not isinstance(flip_noise, int | float):
        raise ConfigError(f"flip_noise: {flip_noise!r} is not a number")
    if not 0.0 <= flip_noise < 0.5:
        raise ConfigError(f"flip_noise: {flip_noise!r} is outside [0, 0.5)")
