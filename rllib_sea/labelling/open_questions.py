"""The questions of one call to an oracle: which have no answer yet, and which get none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any


class OpenQuestions:
    """What was asked in one call, and what has become of it.

    Args:
        num: How many questions; they are known by their places, from 0.
        on_answers: Given answers as they come, each once.
        is_withdrawn: Whether a place is wanted no more.

    Attributes:
        num: How many there are.
        missing: Places without an answer.
        refused: Why some of them get none, by their places.
        failed: How often each place was asked without an answer.
        num_answered: How many answers have come.
    """

    def __init__(
        self,
        num: int,
        on_answers: Callable[[Mapping[int, Any]], None],
        is_withdrawn: Callable[[int], bool],
    ) -> None:
        self.num = num
        self.missing = set(range(num))
        self.refused: dict[int, str] = {}
        self.failed: Counter[int] = Counter()
        self.num_answered = 0
        self._on_answers = on_answers
        self._is_withdrawn = is_withdrawn

    def is_wanted(self, place: int) -> bool:
        """Whether an answer may still come, and is wanted."""
        open_ = place in self.missing and place not in self.refused
        return open_ and not self._is_withdrawn(place)

    def wanted(self) -> list[int]:
        """Those without an answer; the ones that failed before come last: they hold nobody up."""
        return sorted(filter(self.is_wanted, self.missing), key=lambda i: (self.failed[i], i))

    def keep(self, answers: Mapping[int, Any]) -> None:
        """Takes answers in; a second one to a question counts for nothing."""
        new = {place: answers[place] for place in answers if place in self.missing}
        if new:
            self._on_answers(new)
            self.missing.difference_update(new)
            self.num_answered += len(new)

    def refuse(self, place: int, reason: str) -> None:
        """Notes that a question gets no answer."""
        if self.is_wanted(place):
            self.refused[place] = reason

    def refused_for_good(self) -> dict[int, str]:
        """Those that were refused, and have neither been answered late nor withdrawn since."""
        return {
            place: reason
            for place, reason in self.refused.items()
            if place in self.missing and not self._is_withdrawn(place)
        }
