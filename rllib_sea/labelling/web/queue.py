"""Who gets which question next: pure, of the time that it is told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

# A rater who has asked for nothing for so long is left out where few questions are shared out.
ACTIVE_S = 60.0


@dataclass(slots=True)
class QueuedQuestion:
    """A question that wants an answer.

    Attributes:
        id: Its number in the log.
        place: Its round and position.
        wanted: How many raters should judge it.
        needed: How many it takes for a label: it is open until then.
        given: Who has.
        holder: Who has it before them; None if nobody does.
        until: When that ends, in seconds.
    """

    id: int
    place: tuple[int, int]
    wanted: int = 1
    needed: int = 1
    given: set[str] = field(default_factory=set)
    holder: str | None = None
    until: float = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether it has too few verdicts for a label."""
        return len(self.given) < self.needed

    def is_free(self, rater: str, now: float) -> bool:
        """Whether it may be put before a rater who does not have it."""
        return rater not in self.given and (self.holder is None or self.until <= now)


class QuestionQueue:
    """Questions in the order in which they were asked, and who has them.

    Those that are open come first: a round waits for them. A question that wants a second rater is
    handed to one after the first has answered.

    Args:
        lease_s: For how long a question is somebody's.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._open: dict[int, QueuedQuestion] = {}
        self._judged: dict[int, QueuedQuestion] = {}  # by enough for a label, and more are wanted
        self._held: dict[str, dict[int, QueuedQuestion]] = {}
        self._seen: dict[str, float] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._open or key in self._judged

    @property
    def num_open(self) -> int:
        """How many have no label."""
        return len(self._open)

    def is_open(self, key: int) -> bool:
        """Whether a question that is there has no label."""
        return key in self._open

    def add(self, question: QueuedQuestion) -> None:
        """Takes in a question; those that are added later come later."""
        if question.wanted <= len(question.given):
            return
        (self._open if question.is_open else self._judged)[question.id] = question
        if question.holder is not None:
            self._held.setdefault(question.holder, {})[question.id] = question

    def hand_out(self, rater: str, count: int, now: float) -> tuple[list[int], list[int]]:
        """Puts questions before a rater, so that they have some ahead.

        What they have already stays theirs, as long as nobody else was given it. Where fewer are
        left than raters could take, they are shared out evenly.

        Args:
            rater: Who.
            count: How many they want to have.
            now: The time, in seconds.

        Returns:
            What they have, in the order in which it was asked; and of that what they did not have
            before, or had for more than half of its time: leases to be written.
        """
        self._seen[rater] = now
        mine = self._held.setdefault(rater, {})
        active = sum(now - seen <= ACTIVE_S for seen in self._seen.values())
        wanted = max(0, count - len(mine))
        free = list(islice(self._free(rater, now), wanted * active))
        new = free[: min(wanted, math.ceil(len(free) / active))]
        old = sorted(mine.values(), key=lambda question: question.place)[:count]
        renewed = [question for question in old if question.until - now < self._lease_s / 2]
        for question in (*renewed, *new):
            if question.holder not in (None, rater):
                self._held[question.holder].pop(question.id, None)
            question.holder, question.until = rater, now + self._lease_s
            mine[question.id] = question
        got = sorted((*old, *new), key=lambda question: question.place)
        return [question.id for question in got], [q.id for q in (*renewed, *new)]

    def answered(self, key: int, rater: str) -> None:
        """Notes that a rater has judged a question."""
        question = self._open.get(key) or self._judged.get(key)
        if question is None:
            return
        question.given.add(rater)
        is_done = len(question.given) >= question.wanted
        if question.holder == rater or is_done:
            self._release(question)
        if question.is_open:  # it keeps its place
            return
        self._open.pop(key, None)
        self._judged.pop(key, None)
        if not is_done:
            self._judged[key] = question

    def withdraw(self, keys: Iterable[int]) -> None:
        """Forgets questions that were taken back."""
        for key in keys:
            question = self._open.pop(key, None) or self._judged.pop(key, None)
            if question is not None:
                self._release(question)

    def _free(self, rater: str, now: float) -> Iterator[QueuedQuestion]:
        everything = chain(self._open.values(), self._judged.values())
        return (
            question
            for question in everything
            if question.is_free(rater, now) and question.holder != rater
        )

    def _release(self, question: QueuedQuestion) -> None:
        if question.holder is not None:
            self._held[question.holder].pop(question.id, None)
            question.holder = None
