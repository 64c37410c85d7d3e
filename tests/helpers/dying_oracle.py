"""An oracle that takes its process along, and writes down whom it answered."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from text_duel import AsyncOracle, Prompt, Verdict


class DyingOracle(AsyncOracle):
    """Prefers the first response, one question after another.

    Args:
        folder: ``answered`` there gets a line per question. A file ``die`` there holds after how
            many more answers the process is killed; it is removed before that.
    """

    name = "dying"

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._turn = asyncio.Lock()

    async def answer(self, prompt: Prompt, first: str, second: str) -> Verdict:
        async with self._turn:
            await asyncio.sleep(0.01)
            die = self._folder / "die"
            if die.exists():
                left = int(die.read_text())
                if left == 0:
                    die.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
                die.write_text(str(left - 1))
            with (self._folder / "answered").open("a") as lines:
                lines.write(f"{prompt.id}\n")
        return Verdict("first", win_probability=0.9)
