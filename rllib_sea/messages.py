"""What a run tells its user beside numbers."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Messages:
    """Warnings and notes, each passed on once: in the log at once, and with the next result."""

    def __init__(self) -> None:
        self._warnings: list[str] = []
        self._notes: list[str] = []

    def warn(self, text: str) -> None:
        """Tells of something that may be wrong."""
        logger.warning("%s", text)
        self._warnings.append(text)

    def note(self, text: str) -> None:
        """Tells of something that is as it should be."""
        self._notes.append(text)

    def take(self) -> dict[str, str]:
        """What has not been passed on yet, under ``notes`` and ``warnings``."""
        taken = {"notes": self._notes, "warnings": self._warnings}
        self._notes, self._warnings = [], []
        return {kind: "\n".join(lines) for kind, lines in taken.items() if lines}
