"""A log whose page is served by `rllib-sea label`, as a process that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_COMMAND = [sys.executable, "-m", "rllib_sea.cli.rllib_sea", "label"]


class ServedLog:
    """Starts the command, and reads the links that it prints.

    Args:
        log: The preference log.
        raters: Who labels.

    Attributes:
        log: The log.
        links: Each rater's secret link.
    """

    def __init__(self, log: Path, *raters: str) -> None:
        self.log = log
        self._raters = raters
        self.links: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Serves, at the same links as before."""
        names = [word for rater in self._raters for word in ("--rater", rater)]
        self._process = subprocess.Popen(
            [*_COMMAND, str(self.log), *names], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            rater, found, link = line.strip().partition(" labels at ")
            if found:
                self.links[rater] = link
            if set(self.links) == set(self._raters) and rater == self._raters[-1]:
                return
        raise AssertionError(f"the command ended with {self._process.wait()}")

    def kill(self) -> None:
        """Kills the process, as a machine that loses its power."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> str:
        """Ends it with Ctrl-C if it is there; returns what it still printed."""
        assert self._process is not None
        if self._process.poll() is not None:
            return ""
        self._process.send_signal(signal.SIGINT)
        rest, _ = self._process.communicate(timeout=30)
        return rest
