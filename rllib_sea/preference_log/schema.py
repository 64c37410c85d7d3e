"""The preference log as a SQLite file: versions, connections, errors.

Its version stands in ``PRAGMA user_version``, see :data:`MIGRATIONS`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from rllib_sea.preference_log.migrations import APPLICATION_ID, MIGRATIONS
from rllib_sea.preference_log.records import PreferenceLogError

# How long a transaction waits for another program that holds the file.
BUSY_SECONDS = 5.0


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
    # A table can be written anew only while nothing holds on to its rows; see
    # https://www.sqlite.org/lang_altertable.html#otheralter.
    connection.execute("PRAGMA foreign_keys = OFF")
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with transaction(connection):
            run_all(connection, [*statements, f"PRAGMA user_version = {number}"])
            for table, row, *_ in connection.execute("PRAGMA foreign_key_check"):
                raise sqlite3.IntegrityError(f"row {row} of {table} points at nothing")
    connection.execute("PRAGMA foreign_keys = ON")


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
