"""The preference log: every question to the oracle and every verdict, never lost.

One SQLite file per run, which only grows. A question is written before the oracle is asked, a
verdict when it comes; both are on the disk when the call returns. See docs/preferences.md.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rllib_sea.preference_log.lock import WriterLock
from rllib_sea.preference_log.reader import (
    LABEL_COLUMNS,
    LOG_FILE,
    QUESTION_COLUMNS,
    VERDICT_COLUMNS,
    PreferenceReader,
)
from rllib_sea.preference_log.records import (
    ClosedRound,
    LogEntry,
    PreferenceLogError,
    Purpose,
    Question,
    RunRecord,
)
from rllib_sea.preference_log.rows import as_text, check_same_run, listed, question_row, verdict_row
from rllib_sea.preference_log.schema import connect, explained, transaction
from text_duel.verdict_rules import LABEL_RULES, PRIOR
from text_duel.verdicts import Verdict

__all__ = ["LOG_FILE", "PreferenceLog", "PreferenceReader"]

_RUN_COLUMNS = "run_id, seed, policy_model, chat, opened_at"
_TABLES = {
    "questions": f"id, {QUESTION_COLUMNS}",
    "verdicts": f"id, {VERDICT_COLUMNS}",
    "labels": f"id, {LABEL_COLUMNS}",
    "leases": "id, question_id, rater, taken_at, ends_at",
    "withdrawals": "question_id, reason, withdrawn_at",
    "closed_rounds": "round, num_answered, num_open, closed_at",
    "lessons": "question_id, round",
}
# What a question that is asked again has of its own.
_REPEATED = {"asked_at", "purpose", "repeats", "position"}


class PreferenceLog(PreferenceReader):
    """Appends to a run's log; the only writer.

    Every call that writes is one transaction: when it returns, all of it is on the disk; when it
    raises, nothing is. Threads may share a log.

    Args:
        path: The log; made if there is none.
        run: The run. A log that exists must be its own.

    Raises:
        PreferenceLogError: The log is of another run or has a writer, or the file cannot be used.
    """

    def __init__(self, path: str | Path, run: RunRecord) -> None:
        self.path = Path(path)
        self.run = run
        self._mutex = threading.RLock()
        self._reliabilities: dict[str, float] | None = None
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

    def ask(
        self, round_index: int, questions: Sequence[Question], purpose: Purpose = "label"
    ) -> list[LogEntry]:
        """Writes a round's questions of one purpose; to be called before the oracle is.

        A round is asked once. If it was asked before, by this run before it was stopped, the
        questions that are in the log stand: they are returned, with the answers that came, and the
        given ones are not written. Only what is returned may be put to the oracle.

        Args:
            round_index: The round.
            questions: All its questions, in any order; may be none.
            purpose: Why they are asked.

        Returns:
            The round's questions as the log has them, by position.

        Raises:
            ValueError: A question of another round or purpose, or two of one position.
            PreferenceLogError: Nothing was written.
        """
        positions = [question.position for question in questions]
        if any((q.round, q.purpose) != (round_index, purpose) for q in questions):
            raise ValueError(f"questions of another round than {round_index}, or not of {purpose}")
        if len(set(positions)) != len(positions):
            raise ValueError(f"two questions of round {round_index} have one position")
        with self._transaction():
            if self.num_questions(round_index, purpose):
                return self.round(round_index, purpose)
            now = datetime.now(UTC)
            in_order = sorted(questions, key=lambda question: question.position)
            rows = [question_row(question, self.run.run_id, as_text(now)) for question in in_order]
            self._insert("questions", QUESTION_COLUMNS, rows)
            ids = self.query(
                "SELECT id FROM questions WHERE purpose = ? AND round = ? ORDER BY position",
                purpose,
                round_index,
            )
            return [
                LogEntry.just_asked(key, question, self.run.run_id, now)
                for (key,), question in zip(ids, in_order, strict=True)
            ]

    def give(
        self, rater: str, verdicts: Mapping[int, Verdict], *, rule: str = "single", needed: int = 1
    ) -> None:
        """Writes one rater's verdicts, and derives the labels of their questions.

        A verdict on a question that was withdrawn or learned from is kept, and changes nothing.

        Args:
            rater: The identity of who gave them.
            verdicts: By the ids of their questions.
            rule: A name of :data:`text_duel.verdict_rules.LABEL_RULES`.
            needed: How many verdicts a question must have for a label.

        Raises:
            PreferenceLogError: A question was never asked, or this rater answered it before, or
                the file cannot be written. Nothing was written.
        """
        with self._transaction():
            for key in self._standing(verdicts, rater):
                raise PreferenceLogError(
                    f"{self._name(key)} was answered before by {rater}: a verdict is changed "
                    "by a correction, never by a second one"
                )
            self._write(rater, verdicts, {}, rule, needed)

    def correct(
        self, key: int, rater: str, verdict: Verdict, *, rule: str = "single", needed: int = 1
    ) -> None:
        """Replaces a rater's verdict by another: a new record, the old one stays in the file.

        Args:
            key: The question's id.
            rater: Who gave the old one.
            verdict: The new one.
            rule: See :meth:`give`.
            needed: Likewise.

        Raises:
            PreferenceLogError: The rater has no verdict on it, or a round has learned from it.
        """
        with self._transaction():
            replaced = self._standing([key], rater)
            if not replaced:
                raise PreferenceLogError(f"{self._name(key)} has no verdict of {rater}")
            rows = self.query("SELECT round FROM lessons WHERE question_id = ?", key)
            for (learned,) in rows:
                raise PreferenceLogError(
                    f"{self._name(key)} was learned from in round {learned}: its verdict stays"
                )
            self._write(rater, {key: verdict}, replaced, rule, needed)

    def repeat(self, key: int) -> int:
        """Asks a question again; whoever it is leased to then is to judge it once more.

        Args:
            key: The question's id.

        Returns:
            The id of the new one, of the purpose ``repeat``.
        """
        copied = ", ".join(c for c in QUESTION_COLUMNS.split(", ") if c not in _REPEATED)
        with self._transaction():
            made = self._connection.execute(
                f"INSERT INTO questions ({copied}, asked_at, purpose, repeats, position) "
                f"SELECT {copied}, ?, 'repeat', id, (SELECT count(*) FROM questions AS other WHERE "
                "purpose = 'repeat' AND other.round = questions.round) FROM questions WHERE id = ?",
                (as_text(datetime.now(UTC)), key),
            )
            assert made.lastrowid is not None
            return made.lastrowid

    def derive(self, key: int, rule: str, needed: int) -> None:
        """Derives a question's label from the verdicts that are there; see :meth:`give`."""
        with self._transaction():
            self._derive([key], rule, needed)

    def lease(self, ids: Sequence[int], rater: str, seconds: float) -> None:
        """Notes that questions were put before somebody, and until when they are theirs.

        Args:
            ids: Of questions.
            rater: To whom.
            seconds: From now on.
        """
        now = datetime.now(UTC)
        until = as_text(now + timedelta(seconds=seconds))
        with self._transaction():
            rows = [(key, rater, as_text(now), until) for key in ids]
            self._insert("leases", "question_id, rater, taken_at, ends_at", rows)

    def withdraw(self, ids: Sequence[int], reason: str) -> None:
        """Takes questions back that nobody has answered: they count no more.

        Args:
            ids: Of open questions.
            reason: Why.

        Raises:
            PreferenceLogError: One is answered, or withdrawn already. Nothing was written.
        """
        with self._transaction():
            for key, state in self._states(ids).items():
                if state != "open":
                    raise PreferenceLogError(f"{self._name(key)} is {state}, not open")
            now = as_text(datetime.now(UTC))
            rows = [(key, reason, now) for key in ids]
            self._insert("withdrawals", _TABLES["withdrawals"], rows)

    def close_round(self, round_index: int, newest: int | None = None) -> ClosedRound:
        """Settles what a round learns from: all labels that no round has learned from yet.

        Those by the rule ``reliability`` are derived anew, of what is known of raters by then.

        A round is closed once. If it was closed before, by this run before it was stopped, it
        learns from the same labels again, whatever came since.

        Args:
            round_index: The round.
            newest: The last round whose questions it learns from; None: itself.
        """
        with self._transaction():
            if not self.is_closed(round_index):
                self._weigh_anew()
                now = as_text(datetime.now(UTC))
                row = (round_index, self.num_answered(), self.num_open(), now)
                self._insert("closed_rounds", _TABLES["closed_rounds"], [row])
                self._connection.execute(
                    "INSERT INTO lessons SELECT states.question_id, ? FROM states "
                    "JOIN standing_labels ON standing_labels.question_id = states.question_id "
                    "WHERE state = 'answered' AND purpose = 'label' "
                    "AND preference IS NOT NULL AND round <= ? "
                    "AND states.question_id NOT IN (SELECT question_id FROM lessons)",
                    (round_index, round_index if newest is None else newest),
                )
            num_answered, num_open = self.counts_at(round_index + 1)
            return ClosedRound(self.lessons(round_index), num_answered, num_open)

    def inherit(self, source: Path) -> None:
        """Starts a new run's log with all that another log has, such as a checkpoint's copy.

        Args:
            source: The other log. Its questions keep the name of the run that asked them.

        Raises:
            PreferenceLogError: This log has questions already, or one of the two cannot be used.
        """
        with PreferenceReader(source) as other, self._transaction():
            if next(self.query("SELECT count(*) FROM questions"))[0]:
                raise PreferenceLogError(
                    f"preference log {self.path}: it has questions of its own already, nothing "
                    f"was taken from {source}"
                )
            # The own run is there already: its checkpoint may be restored in another folder.
            runs = other.query(
                f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id != ? ORDER BY id", self.run.run_id
            )
            self._insert("runs", _RUN_COLUMNS, runs)
            for table, columns in _TABLES.items():
                self._insert(table, columns, other.query(f"SELECT {columns} FROM {table}"))

    def _write(
        self,
        rater: str,
        verdicts: Mapping[int, Verdict],
        replaced: Mapping[int, int],
        rule: str,
        needed: int,
    ) -> None:
        """Writes verdicts and the labels that follow from them."""
        self._states(verdicts)
        now = as_text(datetime.now(UTC))
        rows = [
            verdict_row(key, rater, verdict, replaced.get(key), now)
            for key, verdict in verdicts.items()
        ]
        self._insert("verdicts", VERDICT_COLUMNS, rows)
        self._derive(verdicts, rule, needed)

    def _derive(self, ids: Iterable[int], rule: str, needed: int) -> None:
        """Writes the labels of questions that may have one, as far as they are new."""
        rows = self.query(
            f"SELECT question_id FROM states WHERE question_id IN ({listed(ids)}) "
            "AND purpose NOT IN ('gold', 'repeat') AND state != 'withdrawn' "
            "AND question_id NOT IN (SELECT question_id FROM lessons)"
        )
        now, keys = as_text(datetime.now(UTC)), [key for (key,) in rows]
        standing = self.query(
            "SELECT question_id, preference, weight, rule FROM standing_labels "
            f"WHERE question_id IN ({listed(keys)})"
        )
        before = {row[0]: row for row in standing}
        labels = []
        for key, given in self.standing_verdicts(keys).items():
            if len(given) < needed:
                continue
            trust = [self._trust(rule).get(one.rater, PRIOR) for one in given]
            label = LABEL_RULES[rule]([one.verdict for one in given], trust)
            preference, weight = (None, 1.0) if label is None else (label.preference, label.weight)
            row = (key, preference, weight, rule)
            if before.get(key) != row:
                labels.append((*row, now))
        self._insert("labels", LABEL_COLUMNS, labels)

    def _weigh_anew(self) -> None:
        """Derives labels again whose weights depend on what is known of raters."""
        self._reliabilities = None
        rows = self.query(
            "SELECT question_id FROM standing_labels WHERE rule = 'reliability' "
            "AND question_id NOT IN (SELECT question_id FROM lessons)"
        )
        self._derive([key for (key,) in rows], "reliability", 1)

    def _trust(self, rule: str) -> dict[str, float]:
        """How reliable raters are, as of the last round that learned; for rules that ask."""
        if rule != "reliability":
            return {}
        if self._reliabilities is None:
            found = self.reliabilities()
            self._reliabilities = {rater: e for rater, (e, _, _) in found.items()}
        return self._reliabilities

    def _states(self, ids: Collection[int]) -> dict[int, str]:
        """The states of questions; raises PreferenceLogError if one was never asked."""
        query = f"SELECT question_id, state FROM states WHERE question_id IN ({listed(ids)})"
        states: dict[int, str] = dict(self.query(query))
        for key in ids:
            if key not in states:
                raise PreferenceLogError(
                    f"preference log {self.path}: question {key} was never asked"
                )
        return states

    def _standing(self, ids: Collection[int], rater: str) -> dict[int, int]:
        """A rater's standing verdicts, by the ids of their questions."""
        rows = self.query(
            "SELECT question_id, id FROM standing_verdicts "
            f"WHERE question_id IN ({listed(ids)}) AND rater = ? ORDER BY question_id",
            rater,
        )
        return dict(rows)

    def _name(self, key: int) -> str:
        """A question for messages."""
        rows = self.query("SELECT purpose, round, position FROM questions WHERE id = ?", key)
        purpose, round_index, position = next(rows)
        kind = "" if purpose == "label" else f"{purpose} question of "
        return f"preference log {self.path}: {kind}round {round_index}, position {position}"

    def _insert(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(columns.split(",")))
        self._connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    def _enter(self, run: RunRecord) -> None:
        """Makes a new log this run's, or checks that an old one is."""
        with self._transaction():
            runs = self.runs()
            if not runs:
                now = as_text(datetime.now(UTC))
                row = (run.run_id, run.seed, run.policy_model, run.chat, now)
                self._insert("runs", _RUN_COLUMNS, [row])
                return
            check_same_run(self.path, runs[0], run)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._mutex, explained(self.path), transaction(self._connection):
            yield
