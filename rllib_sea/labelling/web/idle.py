"""For how long people had nothing to answer."""

from __future__ import annotations

import time
from collections.abc import Callable


class IdleTime:
    """Sums up the time after all questions were answered and before there were new ones.

    Args:
        clock: The time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._seconds = 0.0

    def note(self, num_open: int) -> None:
        """Takes note of how many questions wait for people, when that may have changed."""
        now = self._clock()
        if self._since is not None:
            self._seconds += now - self._since
        self._since = None if num_open else now

    def take(self) -> float:
        """The seconds since the last call."""
        if self._since is not None:
            self.note(0)
        taken, self._seconds = self._seconds, 0.0
        return taken
