"""An asynchronous oracle that does as a test says."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from text_duel import AsyncOracle, Prompt, Verdict


class Scripted(AsyncOracle):
    """Answers question i, by its first response's text, as a script says."""

    name = "scripted"
    script: Callable[[int, int], Coroutine[Any, Any, Verdict]]
    tries: dict[int, int]

    async def answer(self, prompt: Prompt, first: str, second: str) -> Verdict:
        number = int(first)
        cls = type(self)
        cls.tries[number] = cls.tries.get(number, 0) + 1
        return await cls.script(number, cls.tries[number])
