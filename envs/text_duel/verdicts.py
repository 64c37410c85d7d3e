"""What comes back for a duel: verdicts, as they were given, and labels, which are learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Side = Literal["first", "second"]
Choice = Literal["first", "second", "tie", "both_bad", "skip"]
SIDES: tuple[str, ...] = get_args(Side)
CHOICES: tuple[str, ...] = get_args(Choice)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody said about two responses.

    Attributes:
        choice: The response that is preferred; ``tie``: they are equally good; ``both_bad``:
            neither is acceptable; ``skip``: whoever was asked does not decide.
        win_probability: The probability, in [0, 1], that the first response is preferred, before
            the choice was drawn from it; None if none was given.
        scores: Scores of the first and the second response, or None.
        strength: By how much the choice is preferred, on the scale of whoever gave it, or None.
        reason: Why it was skipped, or None.
        seconds: How long it took to decide, or None.
        shown_first: Which response stood first on the page, or None if there was none.

    Raises:
        ValueError: For another choice, a probability outside [0, 1], negative seconds, or a number
            that is not finite.
    """

    choice: Choice
    win_probability: float | None = None
    scores: tuple[float, float] | None = None
    strength: float | None = None
    reason: str | None = None
    seconds: float | None = None
    shown_first: Side | None = None

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise ValueError(f"choice: {self.choice!r} is none of {', '.join(CHOICES)}")
        if self.win_probability is not None and not 0.0 <= self.win_probability <= 1.0:
            raise ValueError(f"win_probability: {self.win_probability!r} is outside [0, 1]")
        for number in (*(self.scores or ()), self.strength, self.seconds):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"scores, strength, seconds: {number!r} is not a finite number")
        if self.seconds is not None and self.seconds < 0.0:
            raise ValueError(f"seconds: {self.seconds!r} is less than 0")
        if self.shown_first not in (None, *SIDES):
            raise ValueError(f"shown_first: {self.shown_first!r} is none of {', '.join(SIDES)}")


@dataclass(frozen=True, slots=True)
class Label:
    """What is learned from a duel.

    Attributes:
        preference: The probability, in [0, 1], that the first response is preferred: 1 and 0 for
            a choice, 0.5 for a tie.
        weight: How much it counts, at least 0; 1 for a label like any other.

    Raises:
        ValueError: A number is out of range.
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
