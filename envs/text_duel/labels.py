"""From a win probability to a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from text_duel.errors import ConfigError, nearest

LABEL_MODES = ("deterministic", "bradley_terry")


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How a label is drawn from the oracle's win probability p.

    - ``deterministic``: the first wins if p > 0.5; at exactly 0.5 a fair coin decides.
    - ``bradley_terry``: the first wins with probability p, z ~ Bernoulli(p) as in the paper.

    Then the label is turned round with probability ``flip_noise``.

    Attributes:
        labels: One of :data:`LABEL_MODES`.
        flip_noise: The probability of a wrong label, in [0, 0.5).

    Raises:
        ConfigError: Unknown mode, or noise out of range.
    """

    labels: str = "deterministic"
    flip_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.labels not in LABEL_MODES:
            raise ConfigError(
                f"labels: {self.labels!r} is none of {', '.join(LABEL_MODES)}"
                f"{nearest(str(self.labels), LABEL_MODES)}"
            )
        noise = self.flip_noise
        is_number = isinstance(noise, int | float) and not isinstance(noise, bool)
        if not is_number or not 0.0 <= noise < 0.5:
            raise ConfigError(f"flip_noise: {noise!r} is not a number in [0, 0.5)")

    def draw(self, win_probability: float, rng: np.random.Generator) -> bool:
        """Draws who wins a duel.

        Always takes exactly two uniform numbers from the generator, so that a change of mode or
        noise does not shift what is drawn after it.

        Args:
            win_probability: p, the probability that the first response is preferred, in [0, 1].
            rng: The source of the two numbers.

        Returns:
            Whether the first response wins.
        """
        coin, flip = rng.random(2)
        if self.labels == "deterministic" and win_probability != 0.5:
            first_wins = win_probability > 0.5
        else:
            first_wins = coin < win_probability
        return bool(first_wins) != bool(flip < self.flip_noise)
