"""Counts for the page: what each rater has answered, and how far the rounds are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, datetime

from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import Lesson


class Tally:
    """Counts answers and rounds as they go, beginning with what a log has.

    Args:
        log: The log.
        clock: The time, in seconds since 1970.

    Attributes:
        num_answered: Questions that are answered.
        learned_round: The newest round that has learned; None before the first.
    """

    def __init__(self, log: PreferenceLog, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self.num_answered = log.num_answered()
        self.learned_round: int | None = None
        self._learned: Counter[str] = Counter()
        self._mine: Counter[str] = Counter()
        self._day, self._today = self._date(), Counter[str]()
        self._asked: Counter[int] = Counter()
        self._open: Counter[int] = Counter()
        self._round_of: dict[int, int] = {}
        midnight = datetime.combine(self._day, datetime.min.time()).astimezone()
        for rater, given_at in log.query("SELECT rater, given_at FROM standing_verdicts"):
            self._mine[rater] += 1
            self._today[rater] += datetime.fromisoformat(given_at) >= midnight
        ((newest,),) = log.query("SELECT max(round) FROM closed_rounds")
        if newest is not None:
            self.learned(newest, log.lessons(newest))

    @property
    def round(self) -> int | None:
        """The newest round that has asked; None before the first."""
        return max(self._asked, default=None)

    def of_round(self) -> tuple[int, int]:
        """How many questions the newest round asked, and how many of them nobody has answered."""
        newest = self.round
        return (0, 0) if newest is None else (self._asked[newest], self._open[newest])

    def of_rater(self, rater: str) -> tuple[int, int, int]:
        """A rater's answers: all, today's, and those that the newest round learned from."""
        today = self._today[rater] if self._day == self._date() else 0
        return self._mine[rater], today, self._learned[rater]

    def asked(self, key: int, round_index: int, *, is_open: bool) -> None:
        """Counts a question for a label."""
        self._asked[round_index] += 1
        if is_open:
            self._open[round_index] += 1
            self._round_of[key] = round_index

    def answered(self, rater: str) -> None:
        """Counts an answer."""
        if self._day != self._date():
            self._day, self._today = self._date(), Counter[str]()
        self._mine[rater] += 1
        self._today[rater] += 1

    def labelled(self, key: int) -> None:
        """Counts a question for a label that has one."""
        if key in self._round_of:
            self.num_answered += 1
            self.closed(key)

    def closed(self, key: int) -> None:
        """Counts a question that is open no more."""
        round_index = self._round_of.pop(key, None)
        if round_index is not None:
            self._open[round_index] -= 1

    def learned(self, round_index: int, lessons: Iterable[Lesson]) -> None:
        """Counts whose answers a round has learned from."""
        verdicts = self._log.standing_verdicts(lesson.id for lesson in lessons)
        self.learned_round = round_index
        self._learned = Counter(one.rater for given in verdicts.values() for one in given)

    def _date(self) -> date:
        return datetime.fromtimestamp(self._clock()).date()
