"""Rows of the preference log's tables, as they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.records import PreferenceLogError, Question, RunRecord
from text_duel.verdicts import Verdict


def listed(ids: Iterable[int]) -> str:
    """Ids as they stand in a query."""
    return ", ".join(str(int(key)) for key in ids)


def as_text(time: datetime) -> str:
    """A time as it is written."""
    return time.isoformat(timespec="microseconds")


def check_same_run(log: Path, found: RunRecord, expected: RunRecord) -> None:
    """Raises PreferenceLogError unless a log's run is the one that opens it."""
    for name, value in asdict(expected).items():
        if getattr(found, name) != value:
            raise PreferenceLogError(
                f"preference log {log}: its {name} is {getattr(found, name)!r}, this run's "
                f"{value!r}: a log belongs to one run"
            )


def _candidate_row(candidate: Candidate, from_reference: bool) -> tuple[Any, ...]:
    return (
        candidate.text,
        json.dumps(candidate.token_ids),
        json.dumps(candidate.logprobs),
        candidate.finish_reason,
        from_reference,
    )


def question_row(question: Question, run_id: str, now: str) -> tuple[Any, ...]:
    """A question in the order of ``QUESTION_COLUMNS``."""
    return (
        run_id,
        question.round,
        question.position,
        question.prompt_id,
        question.prompt_text,
        json.dumps(question.prompt_token_ids),
        *_candidate_row(question.first, question.from_reference[0]),
        *_candidate_row(question.second, question.from_reference[1]),
        question.member,
        question.policy_version,
        question.strategy,
        question.oracle,
        question.labels,
        question.flip_noise,
        now,
        None
        if question.prompt_messages is None
        else json.dumps(question.prompt_messages, ensure_ascii=False),
        question.purpose,
        question.repeats,
    )


def verdict_row(
    key: int, rater: str, verdict: Verdict, replaces: int | None, now: str
) -> tuple[Any, ...]:
    """A verdict in the order of ``VERDICT_COLUMNS``."""
    first_score, second_score = verdict.scores or (None, None)
    return (
        key,
        rater,
        verdict.choice,
        verdict.win_probability,
        first_score,
        second_score,
        verdict.strength,
        verdict.reason,
        verdict.seconds,
        verdict.shown_first,
        replaces,
        now,
    )
