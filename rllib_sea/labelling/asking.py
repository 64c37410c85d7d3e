"""Asks an oracle: many questions at once, again if it cannot answer, never for longer than agreed.

Free of Ray. Whatever an oracle does, be slow, silent, raise, or answer in part: what it has
answered is kept at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_sea.settings.labelling import Labelling
from text_duel.errors import OracleError
from text_duel.oracles import AsyncOracle, Oracle, ask_oracle_in_part
from text_duel.prompts import Prompt
from text_duel.verdicts import Choice, Verdict

# Batches that fail one after another, after which an attempt ends: the oracle is away.
MAX_FAILED_BATCHES = 3
# From one attempt to the next batches shrink by this, until one bad question holds up itself alone.
SHRINK = 4


class OracleAwayError(RuntimeError):
    """The oracle cannot answer; its questions stay open in the preference log."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to be compared.

    Attributes:
        prompt: The prompt.
        first: A response.
        second: Another response.
    """

    prompt: Prompt
    first: str
    second: str


# Verdicts by the places of their questions in the list that was asked.
OnVerdicts = Callable[[Mapping[int, Verdict]], None]


class Asking:
    """Puts comparisons to an oracle.

    Args:
        oracle: The oracle. One that is not asynchronous is called in a thread of its own.
        keys: How long it is waited for.
        warn: Told of every wait when it begins.
    """

    def __init__(self, oracle: Oracle, keys: Labelling, warn: Callable[[str], None]) -> None:
        self._oracle = oracle
        self._keys = keys
        self._warn = warn

    async def ask(
        self,
        comparisons: Sequence[Comparison],
        on_verdicts: OnVerdicts,
        is_withdrawn: Callable[[int], bool] = lambda place: False,
    ) -> None:
        """Asks until every comparison has its verdict.

        A call that is out of time is not broken off: if its answer comes after all, it counts, as
        long as no other has come. Only what has no verdict is asked again.

        Args:
            comparisons: What to ask.
            on_verdicts: Given the verdicts as they come, each once; may be called after this
                method has raised.
            is_withdrawn: Whether a place is wanted no more: it is not asked again then. A verdict
                that comes all the same is given.

        Raises:
            OracleAwayError: Some have no verdict after all attempts.
        """
        keys = self._keys
        missing = set(range(len(comparisons)))
        failed: Counter[int] = Counter()

        def is_wanted(place: int) -> bool:
            return place in missing and not is_withdrawn(place)

        def keep(verdicts: Mapping[int, Verdict]) -> None:
            new = {place: verdicts[place] for place in verdicts if place in missing}
            if new:
                on_verdicts(new)
                missing.difference_update(new)

        for attempt in range(keys.oracle_retries + 1):
            # Those that failed before come last: they hold nobody up.
            places = sorted(filter(is_wanted, missing), key=lambda place: (failed[place], place))
            if not places:  # late answers
                return
            if isinstance(self._oracle, AsyncOracle):
                reason = await self._ask_one_by_one(
                    self._oracle, comparisons, places, is_wanted, keep
                )
            else:
                size = -(-len(places) // SHRINK**attempt)
                batches = [places[i : i + size] for i in range(0, len(places), size)]
                reason = await self._ask_batches(comparisons, batches, is_wanted, keep)
            if not any(map(is_wanted, missing)):
                return
            failed.update(missing)
            await self._wait(attempt, reason)

    async def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """The oracle's scores of responses.

        Raises:
            OracleAwayError: There are none after all attempts.
        """
        scores: list[list[float]] = []

        def keep(result: Any) -> None:
            scores.append(np.asarray(result, dtype=np.float64).tolist())

        for attempt in range(self._keys.oracle_retries + 1):
            call = _in_thread(self._oracle.score, prompts, responses)
            reason = await self._in_time(call, keep)
            if not scores:
                await self._wait(attempt, reason or "")
            if scores:
                break
        return scores[0]

    async def _wait(self, attempt: int, reason: str) -> None:
        """Waits before the next attempt; raises OracleAwayError if that was the last one."""
        keys = self._keys
        if attempt == keys.oracle_retries:
            raise OracleAwayError(reason)
        wait = keys.oracle_retry_wait_s * 2**attempt
        self._warn(f"{reason}; asking again in {wait:g} s ({attempt + 1} of {keys.oracle_retries})")
        await asyncio.sleep(wait)

    async def _ask_one_by_one(
        self,
        oracle: AsyncOracle,
        comparisons: Sequence[Comparison],
        places: Sequence[int],
        is_wanted: Callable[[int], bool],
        keep: OnVerdicts,
    ) -> str:
        """One attempt; returns why a question has no verdict."""
        free = asyncio.Semaphore(self._keys.oracle_concurrency)

        async def ask(place: int) -> str | None:
            asked = comparisons[place]
            async with free:
                if not is_wanted(place):  # a late answer
                    return None
                return await self._in_time(
                    oracle.answer(asked.prompt, asked.first, asked.second),
                    lambda verdict: keep({place: verdict}),
                )

        reasons = await asyncio.gather(*(ask(place) for place in places))
        return next((reason for reason in reasons if reason), "")

    async def _ask_batches(
        self,
        comparisons: Sequence[Comparison],
        batches: Sequence[Sequence[int]],
        is_wanted: Callable[[int], bool],
        keep: OnVerdicts,
    ) -> str:
        """One attempt; returns why a question has no verdict."""
        reason, in_a_row = "", 0
        for planned in batches:
            batch = [place for place in planned if is_wanted(place)]  # late answers may have come
            if not batch:
                continue
            wrong: dict[int, str] = {}

            def keep_answers(
                result: Any, batch: Sequence[int] = batch, wrong: dict[int, str] = wrong
            ) -> None:
                verdicts, found_wrong = result
                wrong.update(found_wrong)
                keep({batch[place]: verdict for place, verdict in verdicts.items()})

            some = [comparisons[place] for place in batch]
            failure = await self._in_time(_in_thread(self._answers, some), keep_answers)
            reason = reason or failure or next(iter(wrong.values()), "")
            in_a_row = in_a_row + 1 if failure else 0
            if in_a_row == MAX_FAILED_BATCHES:
                break
        return reason

    def _answers(
        self, comparisons: Sequence[Comparison]
    ) -> tuple[dict[int, Verdict], dict[int, str]]:
        """Verdicts by place, and by place what is wrong; blocks."""
        answers, wrong = ask_oracle_in_part(
            self._oracle,
            [asked.prompt for asked in comparisons],
            [asked.first for asked in comparisons],
            [asked.second for asked in comparisons],
        )
        verdicts = {}
        for place, probability in enumerate(answers.win_probability):
            if place in wrong:
                continue
            scores = None
            if self._oracle.has_scores:
                scores = float(answers.first_score[place]), float(answers.second_score[place])
            choice: Choice = "first" if probability >= 0.5 else "second"
            verdicts[place] = Verdict(choice, float(probability), scores)
        return verdicts, wrong

    async def _in_time(
        self, call: Coroutine[Any, Any, Any], keep: Callable[[Any], None]
    ) -> str | None:
        """Awaits a call for as long as agreed; returns why it has no result.

        Its result is kept whenever it comes.
        """

        def finish(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and task.exception() is None:
                keep(task.result())

        task = asyncio.ensure_future(call)
        await asyncio.wait({task}, timeout=self._keys.oracle_timeout_s)
        if not task.done():
            task.add_done_callback(finish)
            return (
                f"oracle {self._oracle.name} did not answer within "
                f"{self._keys.oracle_timeout_s:g} s (oracle_timeout_s)"
            )
        error = task.exception()
        if isinstance(error, OracleError):
            return str(error)
        if error is not None:
            reason = " ".join(str(error).split())
            return f"oracle {self._oracle.name} could not answer: {type(error).__name__}: {reason}"
        keep(task.result())
        return None


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a function in a thread of its own, which no process waits for when it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: BaseException | None) -> None:
        if not done.cancelled():
            done.set_result(result) if error is None else done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as raised:
            error = raised
        loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
