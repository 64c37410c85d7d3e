"""What a comparison of two responses teaches: a label."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Label:
    """Which of two responses is preferred, how surely, and how much that counts.

    Attributes:
        preference: Probability that the first response is preferred, in [0, 1]; 1 and 0 are the
            plain labels, exactly 0.5 is a tie.
        weight: How much the label counts beside one of weight 1; finite, at least 0.

    Raises:
        ValueError: A value out of range.
    """

    preference: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.preference <= 1.0:
            raise ValueError(f"preference: {self.preference!r} is outside [0, 1]")
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(f"weight: {self.weight!r} is outside [0, inf)")

    @property
    def is_tie(self) -> bool:
        """Whether neither response is preferred."""
        return self.preference == 0.5
