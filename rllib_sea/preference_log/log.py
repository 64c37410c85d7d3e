"""The preference log: every question to the oracle and its answer, never lost, never asked twice.

One SQLite file a run, which only grows. A question is written before the oracle is asked, its
answer when it comes; both are on the disk when the call returns. See docs/preferences.md.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.lock import WriterLock
from rllib_sea.preference_log.records import (
    AnswerRecord,
    LogEntry,
    PreferenceLogError,
    QuestionRecord,
    RunRecord,
)
from rllib_sea.preference_log.schema import connect, connect_read_only, explained, transaction

# The log's name in a run's folder.
LOG_FILE = "preferences.sqlite"

_RUN_COLUMNS = "run_id, seed, policy_model, chat, opened_at"
_QUESTION_COLUMNS = (
    "run_id, round, position, prompt_id, prompt_text, prompt_token_ids, "
    "first_text, first_token_ids, first_logprobs, first_finish_reason, first_from_reference, "
    "second_text, second_token_ids, second_logprobs, second_finish_reason, "
    "second_from_reference, member, policy_version, strategy, oracle, labels, flip_noise, "
    "shown_first, asked_at"
)
_ANSWER_COLUMNS = (
    "label, win_probability, first_score, second_score, strength, answered_at, answered_by"
)
_ENTRIES = (
    f"SELECT {_QUESTION_COLUMNS}, {_ANSWER_COLUMNS} "
    "FROM questions LEFT JOIN answers ON question_id = questions.id"
)
_IN_ORDER = "ORDER BY round, position"


class PreferenceReader:
    """Reads a log, also while a run writes it.

    A context manager. Every method raises :class:`PreferenceLogError` where the file cannot be
    read.

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
            # `yield from` would close the cursor, and fail where the file was closed before.
            for row in self._connection.execute(sql, parameters):  # noqa: UP028
                yield row

    def runs(self) -> list[RunRecord]:
        """The run that the log belongs to, then those it was started from."""
        rows = self.query("SELECT run_id, seed, policy_model, chat FROM runs ORDER BY id")
        return [RunRecord(run_id, seed, model, bool(chat)) for run_id, seed, model, chat in rows]

    def read(self) -> Iterator[LogEntry]:
        """Yields all questions by round and position, as they stood when it began."""
        return map(_entry, self.query(f"{_ENTRIES} {_IN_ORDER}"))

    def round(self, round_index: int) -> list[LogEntry]:
        """The questions of a round by position; none where it was not asked."""
        return list(map(_entry, self.query(f"{_ENTRIES} WHERE round = ? {_IN_ORDER}", round_index)))

    def pending(self) -> list[LogEntry]:
        """Questions that were asked and not answered, by round and position."""
        return list(map(_entry, self.query(f"{_ENTRIES} WHERE label IS NULL {_IN_ORDER}")))

    def decided(self, num_rounds: int) -> list[int]:
        """Keys of the questions of the first rounds that one side won, by round and position."""
        rows = self.query(
            "SELECT questions.id FROM questions JOIN answers ON question_id = questions.id "
            f"WHERE round < ? AND label IN ('first', 'second') {_IN_ORDER}",
            num_rounds,
        )
        return [key for (key,) in rows]

    def entries(self, keys: Sequence[int]) -> list[LogEntry]:
        """The questions of some keys of :meth:`decided`, in the order of the keys."""
        return [
            _entry(next(self.query(f"{_ENTRIES} WHERE questions.id = ?", int(key)))) for key in keys
        ]

    def num_queries(self, num_rounds: int | None = None) -> int:
        """How many questions were answered: the query count.

        A tie is an answer and so is a skip: somebody was asked, and a budget is a promise about
        that. A pending question counts once it is answered.

        Args:
            num_rounds: Count the first rounds only; None counts all.
        """
        return self._count("answers JOIN questions ON question_id = questions.id", num_rounds)

    def num_questions(self, num_rounds: int | None = None) -> int:
        """How many questions were asked, answered or not, in the first rounds or in all."""
        return self._count("questions", num_rounds)

    def _count(self, table: str, num_rounds: int | None) -> int:
        rows = self.query(
            f"SELECT count(*) FROM {table} WHERE ?1 IS NULL OR round < ?1", num_rounds
        )
        return next(rows)[0]

    def check_count(self, num_rounds: int, num_queries: int) -> None:
        """Makes sure that the log is the one that a checkpoint was written beside.

        Args:
            num_rounds: The rounds that the checkpoint has seen.
            num_queries: Its query count.

        Raises:
            PreferenceLogError: The log has another number of answers in those rounds.
        """
        found = self.num_queries(num_rounds)
        if found != num_queries:
            raise PreferenceLogError(
                f"preference log {self.path}: {found} answers in the first {num_rounds} rounds, "
                f"the checkpoint counts {num_queries}: it is another run's log, or was cut short"
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


class PreferenceLog(PreferenceReader):
    """Appends to a run's log; the only writer.

    Every call that writes is one transaction: when it returns, all of it is on the disk; when it
    raises, nothing is. Threads may share a log.

    Args:
        path: The log; made where there is none.
        run: The run. A log that exists must be its own.

    Raises:
        PreferenceLogError: The log is of another run or has a writer, or the file cannot be used.
    """

    def __init__(self, path: str | Path, run: RunRecord) -> None:
        self.path = Path(path)
        self.run = run
        self._mutex = threading.RLock()
        self._lock = WriterLock(self.path)
        try:
            self._connection = connect(self.path, create=True)
            try:
                self._enter(run)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Closes the file, and lets another writer in; may be called again."""
        super().close()
        self._lock.release()

    def ask(self, round_index: int, questions: Sequence[QuestionRecord]) -> list[LogEntry]:
        """Writes a round's questions; to be called before the oracle is.

        A round is asked once. Where it was asked before, by this run before it was stopped, the
        questions that are in the log stand: they are returned, with the answers that came, and the
        given ones are not written. Only what is returned may be put to the oracle.

        Args:
            round_index: The round.
            questions: All its questions, in any order; may be none.

        Returns:
            The round's questions as the log has them, by position.

        Raises:
            ValueError: A question of another round, or two of one position.
            PreferenceLogError: Nothing was written.
        """
        positions = [question.position for question in questions]
        if any(question.round != round_index for question in questions):
            raise ValueError(f"questions of another round than {round_index}")
        if len(set(positions)) != len(positions):
            raise ValueError(f"two questions of round {round_index} have one position")
        with self._transaction():
            if not self.round(round_index):
                now = _now()
                rows = [_question_row(question, self.run.run_id, now) for question in questions]
                self._insert("questions", _QUESTION_COLUMNS, rows)
            return self.round(round_index)

    def answer(self, answers: Sequence[AnswerRecord]) -> None:
        """Writes answers to questions that were asked.

        Args:
            answers: Any number of them, of any rounds.

        Raises:
            PreferenceLogError: A question was never asked, or was answered before (an answer is
                never changed), or the file cannot be written. Nothing was written.
        """
        now = _now()
        with self._transaction():
            for answer in answers:
                key = self._unanswered(answer.round, answer.position)
                row = (key, *_answer_row(answer, now))
                self._insert("answers", f"question_id, {_ANSWER_COLUMNS}", [row])

    def inherit(self, source: Path) -> None:
        """Starts a new run's log with all that another log has, such as a checkpoint's copy.

        Args:
            source: The other log. Its questions keep the name of the run that asked them.

        Raises:
            PreferenceLogError: This log has questions already, or one of the two cannot be used.
        """
        with PreferenceReader(source) as other, self._transaction():
            if self.num_questions():
                raise PreferenceLogError(
                    f"preference log {self.path}: it has questions of its own already, nothing "
                    f"was taken from {source}"
                )
            # The own run is there already: its checkpoint may be restored in another folder.
            runs = other.query(
                f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id != ? ORDER BY id", self.run.run_id
            )
            self._insert("runs", _RUN_COLUMNS, runs)
            for table, columns in (
                ("questions", f"id, {_QUESTION_COLUMNS}"),
                ("answers", f"question_id, {_ANSWER_COLUMNS}"),
            ):
                self._insert(table, columns, other.query(f"SELECT {columns} FROM {table}"))

    def _insert(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(columns.split(",")))
        self._connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    def _enter(self, run: RunRecord) -> None:
        """Makes a new log this run's, or checks that an old one is."""
        with self._transaction():
            runs = self.runs()
            if not runs:
                row = (run.run_id, run.seed, run.policy_model, run.chat, _now())
                self._insert("runs", _RUN_COLUMNS, [row])
                return
            for name in ("run_id", "seed", "policy_model", "chat"):
                found, expected = getattr(runs[0], name), getattr(run, name)
                if found != expected:
                    raise PreferenceLogError(
                        f"preference log {self.path}: its {name} is {found!r}, this run's "
                        f"{expected!r}: a log belongs to one run"
                    )

    def _unanswered(self, round_index: int, position: int) -> int:
        """The row of a question that waits for its answer."""
        rows = self.query(
            "SELECT questions.id, label FROM questions LEFT JOIN answers "
            "ON question_id = questions.id WHERE round = ? AND position = ?",
            round_index,
            position,
        )
        key, label = next(rows, (None, None))
        name = f"preference log {self.path}: round {round_index}, position {position}"
        if key is None:
            raise PreferenceLogError(f"{name} was never asked")
        if label is not None:
            raise PreferenceLogError(
                f"{name} was answered before ({label}): an answer is never changed"
            )
        return key

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._mutex, explained(self.path), transaction(self._connection):
            yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _candidate_row(candidate: Candidate, from_reference: bool) -> tuple[Any, ...]:
    return (
        candidate.text,
        json.dumps(candidate.token_ids),
        json.dumps(candidate.logprobs),
        candidate.finish_reason,
        from_reference,
    )


def _question_row(question: QuestionRecord, run_id: str, now: str) -> tuple[Any, ...]:
    """A question in the order of ``_QUESTION_COLUMNS``."""
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
        question.shown_first,
        now,
    )


def _answer_row(answer: AnswerRecord, now: str) -> tuple[Any, ...]:
    """An answer in the order of ``_ANSWER_COLUMNS``."""
    first_score, second_score = answer.scores or (None, None)
    return (
        answer.label,
        answer.win_probability,
        first_score,
        second_score,
        answer.strength,
        now,
        answer.answered_by,
    )


def _candidate(text: str, token_ids: str, logprobs: str, finish_reason: Any) -> Candidate:
    return Candidate(text, tuple(json.loads(token_ids)), tuple(json.loads(logprobs)), finish_reason)


def _entry(row: tuple[Any, ...]) -> LogEntry:
    """A row of ``_ENTRIES`` as a record."""
    run_id, round_index, position, prompt_id, prompt_text, prompt_token_ids = row[:6]
    member, policy_version, strategy, oracle, labels, flip_noise, shown_first, asked_at = row[16:24]
    label, win_probability, first_score, second_score, strength, answered_at, by = row[24:]
    question = QuestionRecord(
        round=round_index,
        position=position,
        prompt_id=prompt_id,
        prompt_text=prompt_text,
        prompt_token_ids=tuple(json.loads(prompt_token_ids)),
        first=_candidate(*row[6:10]),
        second=_candidate(*row[11:15]),
        from_reference=(bool(row[10]), bool(row[15])),
        member=member,
        policy_version=policy_version,
        strategy=strategy,
        oracle=oracle,
        labels=labels,
        flip_noise=flip_noise,
        shown_first=shown_first,
    )
    answer = None
    if label is not None:
        answer = AnswerRecord(
            round=round_index,
            position=position,
            label=label,
            answered_by=by,
            win_probability=win_probability,
            scores=None if first_score is None else (first_score, second_score),
            strength=strength,
        )
    return LogEntry(
        question=question,
        run_id=run_id,
        asked_at=datetime.fromisoformat(asked_at),
        answer=answer,
        answered_at=None if answered_at is None else datetime.fromisoformat(answered_at),
    )
