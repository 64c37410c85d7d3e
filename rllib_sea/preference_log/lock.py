"""One writer a preference log: a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from rllib_sea.preference_log.records import PreferenceLogError


def lock_file(log: Path) -> Path:
    """The file whose lock a log's writer holds."""
    return log.with_name(log.name + ".lock")


def writer_of(log: Path) -> str | None:
    """The process id of a log's writer; None if nobody writes to it."""
    try:
        file = os.open(lock_file(log), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(file)
    finally:
        os.close(file)
    return None


class WriterLock:
    """Holds ``<log>.lock`` until it is released or its process ends, however it ends.

    The operating system keeps the lock (``flock``), not the file: a file that is left behind
    locks nothing. It names its holder, for the message that the second writer gets.

    Args:
        log: The preference log.

    Raises:
        PreferenceLogError: Another process, or another part of this one, writes to the log.
    """

    def __init__(self, log: Path) -> None:
        path = lock_file(log)
        self._file: int | None = None
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise PreferenceLogError(
                f"preference log {log}: cannot write {path}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(file)
            os.close(file)
            if isinstance(error, BlockingIOError):
                reason = f"process {holder} writes to it: a log has one writer"
            else:
                reason = f"this file system has no locks ({error.strerror}): use a local disk"
            raise PreferenceLogError(f"preference log {log}: {reason}") from error
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode("ascii"))
        self._file = file

    def release(self) -> None:
        """Lets another writer in. The file stays: to remove it could let in two."""
        if self._file is None:
            return
        # A child that was forked meanwhile holds the file, too: closing it would not be enough.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)
        self._file = None


def _holder(file: int) -> str:
    return os.read(file, 64).decode("ascii", "replace").strip() or "?"
