"""An asynchronous oracle that takes its time over some questions."""

from __future__ import annotations

import asyncio
import zlib

from text_duel import AsyncOracle, Prompt, Verdict


class SlowOracle(AsyncOracle):
    """Prefers the text that comes first in the alphabet; a third of the questions takes longer.

    Args:
        seconds: How long these take.
    """

    name = "slow"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def answer(self, prompt: Prompt, first: str, second: str) -> Verdict:
        if zlib.crc32(f"{prompt.id} {first}".encode()) % 3 == 0:
            await asyncio.sleep(self._seconds)
        return Verdict("first" if first < second else "second")
