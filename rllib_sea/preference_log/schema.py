"""The preference log as a SQLite file: schema, migrations, connections, errors.

Version n is reached by the first n of :data:`MIGRATIONS`; it stands in ``PRAGMA user_version``.
A migration that was released is never changed: a new one is added.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from rllib_sea.preference_log.records import PreferenceLogError

# Marks the file as a preference log: "duel" in ASCII.
APPLICATION_ID = 0x6475656C
# How long a transaction waits for another program that holds the file.
BUSY_SECONDS = 5.0


def _append_only(table: str, taken: str) -> tuple[str, ...]:
    """Triggers that let a table grow only; ``taken`` finds the row that a new one would replace.

    INSERT OR REPLACE deletes without a delete trigger, so a taken key is refused as well.
    """
    refuse = "BEGIN SELECT RAISE(ABORT, 'the preference log is append-only'); END"
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken}) {refuse}",
    )


_VERSION_1 = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    # The first row is the log's own run; the others are those it was started from.
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL UNIQUE,
        seed INTEGER NOT NULL,
        policy_model TEXT NOT NULL,
        chat INTEGER NOT NULL CHECK (chat IN (0, 1)),
        opened_at TEXT NOT NULL
    )""",
    """CREATE TABLE questions (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL REFERENCES runs (run_id),
        round INTEGER NOT NULL,
        position INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        prompt_text TEXT NOT NULL,
        prompt_token_ids TEXT NOT NULL,
        first_text TEXT NOT NULL,
        first_token_ids TEXT NOT NULL,
        first_logprobs TEXT NOT NULL,
        first_finish_reason TEXT NOT NULL,
        first_from_reference INTEGER NOT NULL CHECK (first_from_reference IN (0, 1)),
        second_text TEXT NOT NULL,
        second_token_ids TEXT NOT NULL,
        second_logprobs TEXT NOT NULL,
        second_finish_reason TEXT NOT NULL,
        second_from_reference INTEGER NOT NULL CHECK (second_from_reference IN (0, 1)),
        member INTEGER,
        policy_version INTEGER NOT NULL,
        strategy TEXT NOT NULL,
        oracle TEXT NOT NULL,
        labels TEXT NOT NULL,
        flip_noise REAL NOT NULL,
        shown_first TEXT NOT NULL CHECK (shown_first IN ('first', 'second')),
        asked_at TEXT NOT NULL,
        UNIQUE (round, position)
    )""",
    """CREATE TABLE answers (
        question_id INTEGER PRIMARY KEY REFERENCES questions (id),
        label TEXT NOT NULL CHECK (label IN ('first', 'second', 'tie', 'skip')),
        win_probability REAL,
        first_score REAL,
        second_score REAL,
        strength REAL,
        answered_at TEXT NOT NULL,
        answered_by TEXT NOT NULL
    )""",
    *_append_only("runs", "id = NEW.id OR run_id = NEW.run_id"),
    *_append_only("questions", "id = NEW.id OR (round = NEW.round AND position = NEW.position)"),
    *_append_only("answers", "question_id = NEW.question_id"),
)

# Several verdicts per question, labels that are derived from them, questions that are leased and
# withdrawn, and which round learned from what. Rows of version 1 keep their numbers.
_VERSION_2 = (
    """CREATE TABLE verdicts (
        id INTEGER PRIMARY KEY,
        question_id INTEGER NOT NULL REFERENCES questions (id),
        rater TEXT NOT NULL,
        choice TEXT NOT NULL CHECK (choice IN ('first', 'second', 'tie', 'both_bad', 'skip')),
        win_probability REAL,
        first_score REAL,
        second_score REAL,
        strength REAL,
        reason TEXT,
        seconds REAL,
        shown_first TEXT CHECK (shown_first IN ('first', 'second')),
        replaces INTEGER UNIQUE REFERENCES verdicts (id),
        given_at TEXT NOT NULL
    )""",
    "CREATE INDEX verdicts_of_question ON verdicts (question_id)",
    # The newest row of a question counts. No preference: there is nothing to learn from it.
    """CREATE TABLE labels (
        id INTEGER PRIMARY KEY,
        question_id INTEGER NOT NULL REFERENCES questions (id),
        preference REAL CHECK (preference BETWEEN 0 AND 1),
        weight REAL NOT NULL CHECK (weight >= 0),
        rule TEXT NOT NULL,
        derived_at TEXT NOT NULL
    )""",
    "CREATE INDEX labels_of_question ON labels (question_id)",
    # The newest row of a question counts.
    """CREATE TABLE leases (
        id INTEGER PRIMARY KEY,
        question_id INTEGER NOT NULL REFERENCES questions (id),
        rater TEXT NOT NULL,
        taken_at TEXT NOT NULL,
        ends_at TEXT NOT NULL
    )""",
    "CREATE INDEX leases_of_question ON leases (question_id)",
    """CREATE TABLE withdrawals (
        question_id INTEGER PRIMARY KEY REFERENCES questions (id),
        reason TEXT NOT NULL,
        withdrawn_at TEXT NOT NULL
    )""",
    # A round that is closed has learned: what it learned from is what it learns from if it is
    # done again.
    """CREATE TABLE closed_rounds (
        round INTEGER PRIMARY KEY,
        num_answered INTEGER NOT NULL,
        num_open INTEGER NOT NULL,
        closed_at TEXT NOT NULL
    )""",
    """CREATE TABLE lessons (
        question_id INTEGER PRIMARY KEY REFERENCES questions (id),
        round INTEGER NOT NULL REFERENCES closed_rounds (round)
    )""",
    """INSERT INTO verdicts (question_id, rater, choice, win_probability, first_score,
        second_score, strength, given_at)
        SELECT question_id, answered_by, label, win_probability, first_score, second_score,
        strength, answered_at FROM answers ORDER BY question_id""",
    """INSERT INTO labels (question_id, preference, weight, rule, derived_at)
        SELECT question_id, CASE label WHEN 'first' THEN 1.0 WHEN 'second' THEN 0.0
        WHEN 'tie' THEN 0.5 END, 1.0, 'single', answered_at FROM answers ORDER BY question_id""",
    # Version 1 learned in a round from that round's answers, all of which it waited for.
    """INSERT INTO closed_rounds
        SELECT round, (SELECT count(*) FROM answers JOIN questions AS earlier
            ON earlier.id = question_id WHERE earlier.round <= questions.round), 0,
        max(answered_at) FROM questions JOIN answers ON question_id = questions.id
        WHERE round NOT IN (SELECT round FROM questions WHERE id NOT IN
            (SELECT question_id FROM answers)) GROUP BY round""",
    """INSERT INTO lessons SELECT question_id, questions.round FROM answers
        JOIN questions ON questions.id = question_id
        JOIN closed_rounds ON closed_rounds.round = questions.round
        WHERE label IN ('first', 'second')""",
    "DROP TABLE answers",
    "DROP TRIGGER IF EXISTS questions_no_update",
    "DROP TRIGGER IF EXISTS questions_no_delete",
    "DROP TRIGGER IF EXISTS questions_no_replace",
    # It had a writer in no version: which response stood first is said by each verdict.
    "ALTER TABLE questions DROP COLUMN shown_first",
    *_append_only("questions", "id = NEW.id OR (round = NEW.round AND position = NEW.position)"),
    *_append_only("verdicts", "id = NEW.id OR replaces = NEW.replaces"),
    *_append_only("labels", "id = NEW.id"),
    *_append_only("leases", "id = NEW.id"),
    *_append_only("withdrawals", "question_id = NEW.question_id"),
    *_append_only("closed_rounds", "round = NEW.round"),
    *_append_only("lessons", "question_id = NEW.question_id"),
    """CREATE VIEW standing_verdicts AS SELECT * FROM verdicts
        WHERE id NOT IN (SELECT replaces FROM verdicts WHERE replaces IS NOT NULL)""",
    """CREATE VIEW standing_labels AS SELECT * FROM labels
        WHERE id = (SELECT max(id) FROM labels AS other
            WHERE other.question_id = labels.question_id)""",
    """CREATE VIEW states AS SELECT id AS question_id, round, position,
        CASE WHEN EXISTS (SELECT 1 FROM withdrawals WHERE question_id = questions.id)
        THEN 'withdrawn'
        WHEN EXISTS (SELECT 1 FROM labels WHERE question_id = questions.id)
        THEN 'answered' ELSE 'open' END AS state FROM questions""",
)

# Prompts that are conversations, as JSON; null for texts.
_VERSION_3 = ("ALTER TABLE questions ADD COLUMN prompt_messages TEXT",)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3)


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Opens a log for appending, brought to the newest version.

    Args:
        path: The file.
        create: Make it if there is none.

    Raises:
        PreferenceLogError: It is no log, is damaged, or is of a newer version.
    """
    mode = "rwc" if create else "rw"
    with explained(path):
        connection = _connect(path, mode)
        try:
            _check(connection, path)
            (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if journal != "wal":
                raise PreferenceLogError(
                    f"preference log {path}: this file system has no write-ahead log "
                    f"(journal_mode is {journal}): use a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Opens a log for reading, while it may be written.

    One of an older version is read as a migrated copy in memory: readers change no file.

    Raises:
        PreferenceLogError: There is none, or see :func:`connect`.
    """
    if not path.is_file():
        inside = sorted(path.rglob("*.sqlite")) if path.is_dir() else []
        hint = f" (did you mean {inside[-1]}?)" if inside else ""
        raise PreferenceLogError(f"there is no preference log {path}{hint}")
    with explained(path):
        connection = _connect_reader(path)
        try:
            version = _check(connection, path)
            if version == 0:
                raise PreferenceLogError(f"{path} is empty: it is no preference log")
            if version < len(MIGRATIONS):
                copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                connection.backup(copy)
                connection.close()
                connection = copy
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, and leaves nothing beside the log.

    Whoever reads a log in WAL mode makes two files beside it; the last one to close it takes them
    away again, if it may write. Where nothing may be written there is no other way than to read.
    """
    if all(os.access(place, os.W_OK) for place in (path, path.absolute().parent)):
        connection = _connect(path, "rw")
        connection.execute("PRAGMA query_only = ON")
        return connection
    return _connect(path, "ro")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions are written out: BEGIN, COMMIT
        check_same_thread=False,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """Returns a log's version; 0 for an empty file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise PreferenceLogError(f"{path} is a SQLite file of another program, no preference log")
    if version > len(MIGRATIONS):
        raise PreferenceLogError(
            f"preference log {path} is of version {version}, this rllib-sea reads up to version "
            f"{len(MIGRATIONS)}: use a newer rllib-sea"
        )
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise PreferenceLogError(f"preference log {path} is damaged: {' '.join(found.split())}")
    return version


def _migrate(connection: sqlite3.Connection) -> None:
    """Applies the migrations that are missing, each in a transaction of its own."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with transaction(connection):
            run_all(connection, [*statements, f"PRAGMA user_version = {number}"])


def run_all(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    """Runs statements one by one, inside the transaction that is open."""
    for statement in statements:
        connection.execute(statement)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: commits at the end, durably, or rolls back what raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled some errors back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into one line that names the file and what can be done."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the error, the rest its variety.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        reason = _REASONS.get(code, f"{' '.join(str(error).split())}")
        raise PreferenceLogError(f"preference log {path}: {reason}") from error


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full: nothing was written",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written: nothing was written",
    sqlite3.SQLITE_BUSY: f"another program has locked it for {BUSY_SECONDS:g} s: "
    "nothing was written",
    sqlite3.SQLITE_NOTADB: "it is no preference log (no SQLite file)",
    sqlite3.SQLITE_CORRUPT: "it is damaged, or was cut short",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: its folder is missing, or not to be written to",
    sqlite3.SQLITE_READONLY: "it is not to be written to",
}
