"""The questions that an oracle has before it, and the wait for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine


class InFlight:
    """Tasks that ask an oracle; lives in one event loop."""

    def __init__(self) -> None:
        self._asked: dict[asyncio.Task[None], set[int]] = {}
        self._ahead: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Condition()
        self._failure: BaseException | None = None

    @property
    def ids(self) -> set[int]:
        """Of all questions that are asked now."""
        return set().union(*self._asked.values())

    def begin_round(self) -> None:
        """Awaits what was asked ahead, and forgets failures: their questions are asked again."""
        self._failure = None
        self._ahead.clear()

    def ask(
        self, asking: Coroutine[None, None, None], ids: Collection[int], *, ahead: bool
    ) -> None:
        """Starts to ask questions.

        Args:
            asking: Ends when they are answered.
            ids: Of the questions.
            ahead: Whether nobody waits for them before the next round.
        """
        task = asyncio.create_task(asking)
        self._asked[task] = set(ids)
        if ahead:
            self._ahead.add(task)
        task.add_done_callback(self._finished)

    async def all_answered(self) -> None:
        """Waits for all questions that are not ahead."""
        while awaited := self._asked.keys() - self._ahead:
            await asyncio.wait(awaited)

    async def enough_answered(
        self, is_enough: Callable[[], bool], deadline_s: float | None
    ) -> None:
        """Waits for some of the questions that are not ahead.

        Args:
            is_enough: Asked whenever an answer has come.
            deadline_s: When the wait ends in any case.

        Raises:
            TimeoutError: At the deadline.
        """
        async with asyncio.timeout(deadline_s), self._progress:
            await self._progress.wait_for(lambda: self._asked.keys() <= self._ahead or is_enough())

    def raise_failure(self) -> None:
        """Raises what a task has raised in this round."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def tell(self) -> None:
        """Has whoever waits look again."""
        asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._asked[task]
        self._ahead.discard(task)
        if not task.cancelled():
            self._failure = task.exception() or self._failure
        self.tell()
