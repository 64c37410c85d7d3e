"""What a preference log holds, in numbers."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import datetime

from rllib_sea.preference_log.reader import PreferenceReader
from rllib_sea.preference_log.records import IMPORTED
from text_duel.verdicts import CHOICES

_LATE = (
    "SELECT count(*) FROM lessons JOIN questions ON questions.id = question_id "
    "WHERE lessons.round > questions.round"
)
_FOR_LABELS = "(SELECT * FROM questions WHERE purpose = 'label')"
_VERDICTS = (
    f"(SELECT choice, rater FROM standing_verdicts JOIN {_FOR_LABELS} AS asked "
    "ON asked.id = question_id)"
)
_BESIDE = (
    "(SELECT purpose FROM standing_verdicts JOIN questions ON questions.id = question_id "
    "WHERE purpose != 'label')"
)


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """Counts of a log's questions for labels, and how long answers took.

    Attributes:
        rounds: The first and the last round that has a question; None without any.
        num_questions: Questions asked.
        num_answered: Questions answered.
        num_open: Questions that wait for an answer.
        num_withdrawn: Questions withdrawn.
        num_late: Labels that a later round learned from than the one that asked.
        choices: Standing verdicts by choice.
        strategies: Questions by exploration strategy.
        oracles: Questions by the oracle that was asked.
        raters: Standing verdicts by who gave them.
        beside: Standing verdicts on questions for other purposes than labels, by purpose.
        asked: When the first and the last question were asked; None without any.
        waited: Seconds from question to label: median, 90th percentile, longest; None if nobody
            answered. Imported preferences were not asked for.
    """

    rounds: tuple[int, int] | None
    num_questions: int
    num_answered: int
    num_open: int
    num_withdrawn: int
    num_late: int
    choices: dict[str, int]
    strategies: dict[str, int]
    oracles: dict[str, int]
    raters: dict[str, int]
    beside: dict[str, int]
    asked: tuple[datetime, datetime] | None
    waited: tuple[float, float, float] | None


def log_statistics(log: PreferenceReader) -> LogStatistics:
    """Counts what a log holds.

    Args:
        log: An open log.
    """
    low, high, first, last = next(
        log.query(f"SELECT min(round), max(round), min(asked_at), max(asked_at) FROM {_FOR_LABELS}")
    )
    choices = _counts(log, "choice", _VERDICTS)
    return LogStatistics(
        rounds=None if low is None else (low, high),
        num_questions=log.num_questions(),
        num_answered=log.num_answered(),
        num_open=log.num_open(),
        num_withdrawn=log.num_withdrawn(),
        num_late=next(log.query(_LATE))[0],
        choices={choice: choices.get(choice, 0) for choice in CHOICES},
        strategies=_counts(log, "strategy", _FOR_LABELS),
        oracles=_counts(log, "oracle", _FOR_LABELS),
        raters=_counts(log, "rater", _VERDICTS),
        beside=_counts(log, "purpose", _BESIDE),
        asked=None if low is None else (_time(first), _time(last)),
        waited=_waited(log),
    )


def _counts(log: PreferenceReader, column: str, table: str) -> dict[str, int]:
    """How often each value stands in a column, the most frequent first."""
    return dict(
        log.query(f"SELECT {column}, count(*) FROM {table} GROUP BY 1 ORDER BY count(*) DESC, 1")
    )


def _waited(log: PreferenceReader) -> tuple[float, float, float] | None:
    times = log.query(
        "SELECT asked_at, min(derived_at) FROM labels "
        "JOIN questions ON question_id = questions.id "
        f"WHERE purpose = 'label' AND strategy != '{IMPORTED}' GROUP BY questions.id"
    )
    seconds = sorted((_time(after) - _time(before)).total_seconds() for before, after in times)
    if not seconds:
        return None
    return statistics.median(seconds), seconds[int(0.9 * (len(seconds) - 1))], seconds[-1]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
