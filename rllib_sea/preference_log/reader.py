"""Reads a preference log, also while a run writes it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.records import (
    GivenVerdict,
    Lesson,
    LogEntry,
    PreferenceLogError,
    Purpose,
    Question,
    RunRecord,
)
from rllib_sea.preference_log.schema import connect_read_only, explained
from text_duel.verdict_rules import reliability_of
from text_duel.verdicts import Label, Verdict

# The log's name in a run's folder.
LOG_FILE = "preferences.sqlite"

QUESTION_COLUMNS = (
    "run_id, round, position, prompt_id, prompt_text, prompt_token_ids, "
    "first_text, first_token_ids, first_logprobs, first_finish_reason, first_from_reference, "
    "second_text, second_token_ids, second_logprobs, second_finish_reason, "
    "second_from_reference, member, policy_version, strategy, oracle, labels, flip_noise, "
    "asked_at, prompt_messages, purpose, repeats"
)
VERDICT_COLUMNS = (
    "question_id, rater, choice, win_probability, first_score, second_score, strength, reason, "
    "seconds, shown_first, replaces, given_at"
)
LABEL_COLUMNS = "question_id, preference, weight, rule, derived_at"
_ENTRIES = (
    f"SELECT questions.id, {', '.join(f'questions.{c}' for c in QUESTION_COLUMNS.split(', '))}, "
    "standing_labels.preference, weight, rule, derived_at, lessons.round, withdrawn_at, "
    # Who has judged a question has it no longer before them.
    "(SELECT ends_at FROM leases WHERE id = (SELECT max(id) FROM leases AS newest "
    "WHERE newest.question_id = questions.id) AND NOT EXISTS (SELECT 1 FROM verdicts "
    "WHERE verdicts.question_id = questions.id AND verdicts.rater = leases.rater)) "
    "FROM questions LEFT JOIN standing_labels ON standing_labels.question_id = questions.id "
    "LEFT JOIN lessons ON lessons.question_id = questions.id "
    "LEFT JOIN withdrawals ON withdrawals.question_id = questions.id"
)
_IN_ORDER = "ORDER BY questions.round, position"
_VERDICTS = (
    "SELECT question_id, rater, choice, win_probability, first_score, second_score, strength, "
    "reason, seconds, shown_first, given_at FROM standing_verdicts"
)
_AT_ONCE = 256


class PreferenceReader:
    """Reads a log, also while a run writes it.

    A context manager. Every method raises :class:`PreferenceLogError` if the file cannot be read.

    Args:
        path: The log.

    Raises:
        PreferenceLogError: There is no such file, or it is no log that can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._connection = connect_read_only(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; may be called again."""
        with explained(self.path):
            self._connection.close()

    def query(self, sql: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of a query; docs/preferences.md has the tables."""
        with explained(self.path):
            # `yield from` would close the cursor, and fail if the file was closed before.
            for row in self._connection.execute(sql, parameters):  # noqa: UP028
                yield row

    def runs(self) -> list[RunRecord]:
        """The run that the log belongs to, then those it was started from."""
        rows = self.query("SELECT run_id, seed, policy_model, chat FROM runs ORDER BY id")
        return [RunRecord(run_id, seed, model, bool(chat)) for run_id, seed, model, chat in rows]

    def read(self, purpose: Purpose | None = "label") -> Iterator[LogEntry]:
        """Yields the questions of a purpose by round and position, as they stood when it began.

        Args:
            purpose: Why they were asked; None: all.
        """
        # Of one moment: verdicts are read with their questions, some at a time.
        condition = "WHERE ?1 IS NULL OR questions.purpose = ?1"
        rows = self.query(f"{_ENTRIES} {condition} {_IN_ORDER}", purpose)
        while some := list(islice(rows, _AT_ONCE)):
            yield from self._entries(some)

    def round(self, round_index: int, purpose: Purpose = "label") -> list[LogEntry]:
        """The questions of a round by position; none if it was not asked.

        Args:
            round_index: The round.
            purpose: Why they were asked.
        """
        return self._found("questions.purpose = ? AND questions.round = ?", purpose, round_index)

    def open_ids(self, last_round: int | None = None, purpose: Purpose = "label") -> list[int]:
        """Ids of the questions that nobody has answered and nobody withdrew.

        Args:
            last_round: Those that the rounds up to this one have asked; None: all.
            purpose: Why they were asked.

        Returns:
            By round and position.
        """
        rows = self.query(
            "SELECT question_id FROM states WHERE state = 'open' AND purpose = ?1 "
            "AND (?2 IS NULL OR round <= ?2) ORDER BY round, position",
            purpose,
            last_round,
        )
        return [key for (key,) in rows]

    def open_prompts(self) -> set[tuple[str, str]]:
        """Ids and texts of the prompts of all questions that wait for a label."""
        return set(
            self.query(
                "SELECT DISTINCT prompt_id, prompt_text FROM questions "
                "JOIN states ON states.question_id = questions.id "
                "WHERE state = 'open' AND states.purpose = 'label'"
            )
        )

    def lessons(self, round_index: int) -> list[Lesson]:
        """What a closed round learned from, by round and position of the question."""
        rows = self.query(
            "SELECT questions.id, questions.round, position, preference, weight, "
            "win_probability, first_score, second_score FROM lessons "
            "JOIN questions ON questions.id = lessons.question_id "
            "JOIN standing_labels ON standing_labels.question_id = questions.id "
            "JOIN standing_verdicts AS verdicts ON verdicts.id = (SELECT min(id) "
            "FROM standing_verdicts AS first WHERE first.question_id = questions.id) "
            f"WHERE lessons.round = ? {_IN_ORDER}",
            round_index,
        )
        return [
            Lesson(
                id=key,
                round=asked_in,
                position=position,
                label=Label(preference, weight),
                win_probability=probability,
                scores=None if scores[0] is None else (scores[0], scores[1]),
            )
            for key, asked_in, position, preference, weight, probability, *scores in rows
        ]

    def learned(self, num_rounds: int, *, ties: bool = False) -> list[int]:
        """Ids of the questions that the first rounds learned from, in the order of learning.

        Args:
            num_rounds: How many rounds.
            ties: Whether ties are among them.
        """
        rows = self.query(
            "SELECT lessons.question_id FROM lessons "
            "JOIN questions ON questions.id = lessons.question_id "
            "JOIN standing_labels ON standing_labels.question_id = lessons.question_id "
            "WHERE lessons.round < ? AND (? OR preference != 0.5) "
            "ORDER BY lessons.round, questions.round, position",
            num_rounds,
            ties,
        )
        return [key for (key,) in rows]

    def entries(self, ids: Sequence[int]) -> list[LogEntry]:
        """The questions of some ids, in the order of the ids."""
        wanted = ", ".join(str(int(key)) for key in set(ids))
        found = {entry.id: entry for entry in self._found(f"questions.id IN ({wanted})")}
        return [found[int(key)] for key in ids]

    def reliabilities(self) -> dict[str, tuple[float, float, float]]:
        """How reliable each rater is, see :func:`text_duel.verdict_rules.reliability_of`."""
        judgments = self.query(
            "SELECT rater, question_id, choice FROM standing_verdicts AS verdicts "
            "JOIN questions ON questions.id = question_id "
            "WHERE purpose IN ('label', 'gold') ORDER BY verdicts.id"
        )
        gold = self.query("SELECT id FROM questions WHERE purpose = 'gold'")
        return reliability_of(list(judgments), {key for (key,) in gold})

    def is_closed(self, round_index: int) -> bool:
        """Whether a round has learned."""
        rows = self.query("SELECT 1 FROM closed_rounds WHERE round = ?", round_index)
        return next(rows, None) is not None

    def num_answered(self, purpose: Purpose = "label") -> int:
        """How many questions were answered.

        A tie is an answer and so is a skip: somebody was asked, and a budget is a promise about
        that. A question that was withdrawn is none, whatever was said of it later.

        Args:
            purpose: Why they were asked: a budget counts labels only.
        """
        return self._count("state = 'answered'", None, purpose)

    def num_open(self, round_index: int | None = None, purpose: Purpose = "label") -> int:
        """How many questions wait for an answer, of a round or of all."""
        return self._count("state = 'open'", round_index, purpose)

    def num_withdrawn(self, purpose: Purpose = "label") -> int:
        """How many questions were withdrawn."""
        return self._count("state = 'withdrawn'", None, purpose)

    def num_skipped(self) -> int:
        """How many questions for labels have an answer from which there is nothing to learn."""
        rows = self.query(
            "SELECT count(*) FROM states JOIN standing_labels "
            "ON standing_labels.question_id = states.question_id "
            "WHERE state = 'answered' AND purpose = 'label' AND preference IS NULL"
        )
        return next(rows)[0]

    def num_to_learn(self, num_rounds: int) -> int:
        """How many labels are there from which none of the first rounds has learned."""
        sql = (
            "SELECT count(*) FROM states JOIN standing_labels USING (question_id) "
            "LEFT JOIN lessons USING (question_id) WHERE state = 'answered' AND purpose = 'label' "
            "AND preference IS NOT NULL AND (lessons.round IS NULL OR lessons.round >= ?)"
        )
        return next(self.query(sql, num_rounds))[0]

    def num_questions(self, round_index: int | None = None, purpose: Purpose = "label") -> int:
        """How many questions were asked, of a round or of all, whatever became of them."""
        return self._count("TRUE", round_index, purpose)

    def counts_at(self, num_rounds: int) -> tuple[int, int]:
        """How many questions were answered, and how many open, when the first rounds were done."""
        rows = self.query(
            "SELECT num_answered, num_open FROM closed_rounds WHERE round < ? "
            "ORDER BY round DESC LIMIT 1",
            num_rounds,
        )
        return next(rows, (0, 0))

    def check_count(self, num_rounds: int, num_answered: int) -> None:
        """Makes sure that the log is the one that a checkpoint was written beside.

        Args:
            num_rounds: The rounds that the checkpoint has seen.
            num_answered: Its query count.

        Raises:
            PreferenceLogError: The log has another number of answers in those rounds.
        """
        found, _ = self.counts_at(num_rounds)
        found = min(found, self.num_answered())
        if found != num_answered:
            raise PreferenceLogError(
                f"preference log {self.path}: {found} answers in the first {num_rounds} rounds, "
                f"the checkpoint counts {num_answered}: it is another run's log, or was cut short"
            )

    def copy_to(self, path: Path) -> None:
        """Writes a copy for a checkpoint: one plain file that nothing writes to.

        The copy appears whole, or not at all.

        Args:
            path: The new file; an older one is replaced.

        Raises:
            PreferenceLogError: It cannot be written.
        """
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with explained(path):
                copy = sqlite3.connect(part)
                try:
                    self._connection.backup(copy)
                    # A log in WAL mode could not be read in a folder that is not to be written to.
                    copy.execute("PRAGMA journal_mode = DELETE")
                finally:
                    copy.close()
            os.replace(part, path)
        except OSError as error:
            raise PreferenceLogError(f"preference log {path}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def _count(self, condition: str, round_index: int | None, purpose: Purpose) -> int:
        rows = self.query(
            f"SELECT count(*) FROM states WHERE {condition} AND purpose = ?1 "
            "AND (?2 IS NULL OR round = ?2)",
            purpose,
            round_index,
        )
        return next(rows)[0]

    def _found(self, condition: str, *parameters: Any) -> list[LogEntry]:
        rows = self.query(f"{_ENTRIES} WHERE {condition} {_IN_ORDER}", *parameters)
        return list(self._entries(list(rows)))

    def standing_verdicts(self, ids: Iterable[int]) -> dict[int, list[GivenVerdict]]:
        """The verdicts on some questions, the oldest first; corrected ones are left out."""
        verdicts: dict[int, list[GivenVerdict]] = {key: [] for key in ids}
        wanted = ", ".join(str(int(key)) for key in verdicts)
        for key, *fields in self.query(f"{_VERDICTS} WHERE question_id IN ({wanted}) ORDER BY id"):
            verdicts[key].append(_given(fields))
        return verdicts

    def _entries(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[LogEntry]:
        """Rows of ``_ENTRIES`` as records, with their verdicts."""
        verdicts = self.standing_verdicts(row[0] for row in rows)
        now = datetime.now(UTC)
        for row in rows:
            yield _entry(row, verdicts[row[0]], now)


def _given(fields: Sequence[Any]) -> GivenVerdict:
    rater, choice, win_probability, first_score, second_score = fields[:5]
    strength, reason, seconds, shown_first, given_at = fields[5:]
    return GivenVerdict(
        Verdict(
            choice=choice,
            win_probability=win_probability,
            scores=None if first_score is None else (first_score, second_score),
            strength=strength,
            reason=reason,
            seconds=seconds,
            shown_first=shown_first,
        ),
        rater=rater,
        given_at=datetime.fromisoformat(given_at),
    )


def _candidate(text: str, token_ids: str, logprobs: str, finish_reason: Any) -> Candidate:
    return Candidate(text, tuple(json.loads(token_ids)), tuple(json.loads(logprobs)), finish_reason)


def _entry(row: tuple[Any, ...], verdicts: Sequence[GivenVerdict], now: datetime) -> LogEntry:
    key, run_id, round_index, position, prompt_id, prompt_text, prompt_token_ids = row[:7]
    member, policy_version, strategy, oracle, labels, flip_noise, asked_at = row[17:24]
    preference, weight, rule, derived_at, learned_in, withdrawn_at, lease_ends_at = row[27:]
    question = Question(
        round=round_index,
        position=position,
        prompt_id=prompt_id,
        prompt_text=prompt_text,
        prompt_token_ids=tuple(json.loads(prompt_token_ids)),
        first=_candidate(*row[7:11]),
        second=_candidate(*row[12:16]),
        from_reference=(bool(row[11]), bool(row[16])),
        member=member,
        policy_version=policy_version,
        strategy=strategy,
        oracle=oracle,
        labels=labels,
        flip_noise=flip_noise,
        prompt_messages=None if row[24] is None else tuple(json.loads(row[24])),
        purpose=row[25],
        repeats=row[26],
    )
    leased = lease_ends_at is not None and datetime.fromisoformat(lease_ends_at) > now
    return LogEntry(
        id=key,
        question=question,
        run_id=run_id,
        asked_at=datetime.fromisoformat(asked_at),
        state="withdrawn"
        if withdrawn_at
        else "answered"
        if rule
        else "leased"
        if leased
        else "open",
        verdicts=tuple(verdicts),
        label=None if preference is None else Label(preference, weight),
        label_rule=rule,
        answered_at=None if derived_at is None else datetime.fromisoformat(derived_at),
        learned_in=learned_in,
    )
