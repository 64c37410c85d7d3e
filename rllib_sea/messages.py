"""What a run tells its user beside numbers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

# Tune keeps what it registers there: the one place that a trial's process and the command share.
from ray.experimental.internal_kv import (
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_put,
)

if TYPE_CHECKING:
    from ray.train._internal.storage import StorageContext

logger = logging.getLogger(__name__)

_NAMESPACE = "rllib_sea.messages"
WARNING = "warning: "


class Messages:
    """Warnings and notes of a run; whoever shows its progress reads them with :func:`told_since`.

    Args:
        storage: Tune's of the trial; None: there is no Tune.
    """

    def __init__(self, storage: StorageContext | None) -> None:
        self._key = _key(storage)
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._told: list[tuple[int, str]] = []

    def warn(self, text: str) -> None:
        """Tells of something that may be wrong; the same once for each result."""
        if text in self._warnings:
            return
        logger.warning("%s", text)
        self._warnings.append(text)
        self._tell(f"{WARNING}{text}")

    def show(self, text: str) -> None:
        """Tells of a wait, of which nobody wants to know once it is over."""
        logger.warning("%s", text)
        self._tell(text)

    def tell_only(self, text: str) -> None:
        """Tells of what no file may have, such as secret links: on the terminal and nowhere else.

        Without Tune the process is the user's own.
        """
        if self._key:
            self._tell(text)
        else:
            print(text, flush=True)

    def note(self, text: str) -> None:
        """Tells of something that is as it should be, with the next result."""
        self._notes.append(text)

    def take(self) -> dict[str, str]:
        """What has not been passed on yet, under ``notes`` and ``warnings``."""
        taken = {"notes": self._notes, "warnings": self._warnings}
        self._notes, self._warnings, self._told = [], [], []
        return {kind: "\n".join(lines) for kind, lines in taken.items() if lines}

    def _tell(self, line: str) -> None:
        self._told.append((time.time_ns(), line))
        if self._key and _internal_kv_initialized():
            _internal_kv_put(self._key, json.dumps(self._told), namespace=_NAMESPACE)


def _key(storage: StorageContext | None) -> str:
    """What an Algorithm and Tune both know of a trial; its id an Algorithm does not."""
    return (storage and storage.trial_dir_name) or ""


def told_since(storage: StorageContext | None, since: int) -> Iterator[tuple[int, str]]:
    """Yields what a run has told since its last result, and when, on the clock of its machine.

    Args:
        storage: Tune's of the trial.
        since: Nanoseconds; earlier lines are left out.
    """
    key, told = _key(storage), None
    if key and _internal_kv_initialized():
        told = _internal_kv_get(key, namespace=_NAMESPACE)
    for at, line in json.loads(told or "[]"):
        if at > since:
            yield at, line
