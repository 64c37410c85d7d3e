"""Asks an oracle: many questions at once, again if it cannot answer, never for longer than agreed.

Free of Ray. Whatever an oracle does, be slow, silent, raise, or answer in part: what it has
answered is kept at once, and a question that it can never answer holds up no other.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from rllib_sea.labelling.open_questions import OpenQuestions
from rllib_sea.settings.labelling import Labelling
from text_duel.errors import BrokenOracleError, OracleError
from text_duel.oracles import AsyncOracle, Oracle, ask_oracle_in_part, check_shape, is_final
from text_duel.prompts import Prompt
from text_duel.verdicts import Choice, Verdict

# Batches that fail one after another, after which an attempt ends: the oracle is away. Of fewer
# questions than these that fail where others are answered, it is the questions' fault.
MAX_FAILED_BATCHES = 3
# From one attempt to the next batches shrink by this, until one bad question holds up itself alone.
SHRINK = 4
# What is asked of an oracle for longer is shown, though nothing has failed.
SHOW_WAIT_S = 20.0


class OracleAwayError(RuntimeError):
    """The oracle cannot answer; its questions stay open in the preference log."""

    way_on = "`--resume` goes on with it once the oracle answers"


class OracleUnusableError(OracleAwayError):
    """The oracle fails at every question, and would fail again; they stay open likewise."""

    way_on = "`--resume` goes on with it once the oracle is mended"


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
# Answers of any kind, and what is wrong with others, by their places in a batch; blocks.
Batch = Callable[[Sequence[int]], tuple[Mapping[int, Any], Mapping[int, str]]]


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a call has no result, and whether it would fail in the same way again."""

    reason: str
    final: bool


class Asking:
    """Puts comparisons to an oracle.

    Args:
        oracle: The oracle. One that is not asynchronous is called in a thread of its own.
        keys: How long it is waited for.
        warn: Told of every failure that is waited for, when the wait begins.
        show: Told of waits in which nothing has failed.
    """

    def __init__(
        self,
        oracle: Oracle,
        keys: Labelling,
        warn: Callable[[str], None],
        show: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._oracle = oracle
        self._keys = keys
        self._warn = warn
        self._show = show
        self._refused_in_a_row = 0

    async def ask(
        self,
        comparisons: Sequence[Comparison],
        on_verdicts: OnVerdicts,
        is_withdrawn: Callable[[int], bool] = lambda place: False,
        *,
        retries: int | None = None,
    ) -> dict[int, str]:
        """Asks until every comparison has its verdict, or can have none.

        A call that is out of time is not broken off: if its answer comes after all, it counts, as
        long as no other has come. Only what has no verdict is asked again.

        Args:
            comparisons: What to ask.
            on_verdicts: Given the verdicts as they come, each once; may be called after this
                method has raised.
            is_withdrawn: Whether a place is wanted no more: it is not asked again then. A verdict
                that comes all the same is given.
            retries: How often an oracle that cannot answer is asked again; None: as configured.

        Returns:
            Why the oracle can answer some of them never, by their places: what it raised would come
            again; or a few failed in every attempt while it answered others.

        Raises:
            OracleAwayError: Some have no verdict after all attempts.
            OracleUnusableError: None has, and what went wrong would come again.
        """
        questions = OpenQuestions(len(comparisons), on_verdicts, is_withdrawn)

        def batch(places: Sequence[int]) -> tuple[dict[int, Verdict], dict[int, str]]:
            return self._verdicts([comparisons[place] for place in places])

        return await self._until_settled(
            questions, comparisons if isinstance(self._oracle, AsyncOracle) else batch, retries
        )

    async def score(
        self, prompts: Sequence[Prompt], responses: Sequence[str], *, retries: int | None = None
    ) -> tuple[list[float], dict[int, str]]:
        """The oracle's scores of responses.

        Args:
            prompts: N prompts.
            responses: N responses.
            retries: See :meth:`ask`.

        Returns:
            N scores, NaN if there is none, and why the oracle cannot score some of them.

        Raises:
            OracleAwayError: As for :meth:`ask`.
        """
        scores = [float("nan")] * len(prompts)

        def keep(found: Mapping[int, float]) -> None:
            for place, score in found.items():
                scores[place] = score

        def batch(places: Sequence[int]) -> tuple[dict[int, float], dict[int, str]]:
            found = np.asarray(
                self._oracle.score([prompts[i] for i in places], [responses[i] for i in places]),
                dtype=np.float64,
            )
            check_shape(self._oracle, "score", found, len(places))
            return dict(enumerate(found.tolist())), {}

        questions = OpenQuestions(len(prompts), keep, lambda place: False)
        return scores, await self._until_settled(questions, batch, retries)

    async def _until_settled(
        self, questions: OpenQuestions, ask: Batch | Sequence[Comparison], retries: int | None
    ) -> dict[int, str]:
        """Asks until every question is answered or refused; returns the refused ones."""
        retries = self._keys.oracle_retries if retries is None else retries
        since, waits = time.strftime("%H:%M:%S"), 0
        with self._shown(questions, since):
            for attempt in count():
                places = questions.wanted()
                if not places:  # late answers
                    break
                if callable(ask):
                    size = -(-len(places) // SHRINK**attempt)
                    batches = [places[i : i + size] for i in range(0, len(places), size)]
                    failures = await self._ask_batches(ask, batches, questions)
                else:
                    failures = await self._ask_one_by_one(ask, places, questions)
                self._check_usable(questions)
                left = questions.wanted()
                if not left:
                    break
                questions.failed.update(left)
                passing = [failure.reason for failure in failures if not failure.final]
                if not passing:  # in smaller batches, at once
                    continue
                if waits == retries:
                    self._give_up(questions, passing[0], waits + 1)
                    break
                wait = self._keys.oracle_retry_wait_s * 2**waits
                waits += 1
                self._warn(
                    f"{len(left)} of {questions.num} questions of {since} have no answer: "
                    f"{passing[0]}; asking again in {wait:g} s ({waits} of {retries})"
                )
                await asyncio.sleep(wait)
        self._refused_in_a_row += len(questions.refused)
        if questions.num_answered:
            self._refused_in_a_row = 0
        return questions.refused_for_good()

    def _check_usable(self, questions: OpenQuestions) -> None:
        """Raises OracleUnusableError if the oracle refuses all that it is asked.

        Also over several calls, of which each asked little: their questions would be without end.
        """
        in_a_row = self._refused_in_a_row + len(questions.refused)
        if questions.refused and not questions.num_answered and in_a_row >= MAX_FAILED_BATCHES:
            self._refused_in_a_row = 0
            raise OracleUnusableError(next(iter(questions.refused.values())))

    def _give_up(self, questions: OpenQuestions, reason: str, times: int) -> None:
        """Refuses what alone is left of what was asked; otherwise raises OracleAwayError."""
        left = questions.wanted()
        if not questions.num_answered or len(left) >= MAX_FAILED_BATCHES:
            raise OracleAwayError(reason)
        for place in left:
            questions.refuse(place, f"asked {times} times without an answer: {reason}")

    @contextmanager
    def _shown(self, questions: OpenQuestions, since: str) -> Iterator[None]:
        """Shows a wait that takes long, once."""

        def show() -> None:
            self._show(
                f"waiting for oracle {self._oracle.name} since {since}: "
                f"{len(questions.wanted())} of {questions.num} questions have no answer yet"
            )

        timer = asyncio.get_running_loop().call_later(SHOW_WAIT_S, show)
        try:
            yield
        finally:
            timer.cancel()

    async def _ask_one_by_one(
        self, comparisons: Sequence[Comparison], places: Sequence[int], questions: OpenQuestions
    ) -> list[_Failure]:
        """One attempt; returns why questions have no verdict."""
        free = asyncio.Semaphore(self._keys.oracle_concurrency)

        async def ask(place: int) -> _Failure | None:
            asked = comparisons[place]
            async with free:
                if not questions.is_wanted(place):  # a late answer
                    return None
                failure = await self._in_time(
                    self._verdict(asked), lambda verdict: questions.keep({place: verdict})
                )
            if failure is not None and failure.final:
                questions.refuse(place, failure.reason)
            return failure

        failures = await asyncio.gather(*(ask(place) for place in places))
        return [failure for failure in failures if failure is not None]

    async def _ask_batches(
        self, ask: Batch, batches: Sequence[Sequence[int]], questions: OpenQuestions
    ) -> list[_Failure]:
        """One attempt; returns why questions have no answer."""
        failures, in_a_row = [], 0
        for planned in batches:
            batch = list(filter(questions.is_wanted, planned))  # late answers may have come
            if not batch:
                continue

            def keep(result: Any, batch: Sequence[int] = batch) -> None:
                answers, wrong = result
                questions.keep({batch[place]: answer for place, answer in answers.items()})
                for place, reason in wrong.items():
                    questions.refuse(batch[place], reason)

            failure = await self._in_time(_in_thread(ask, batch), keep)
            in_a_row = in_a_row + 1 if failure else 0
            if failure is not None:
                failures.append(failure)
                if failure.final and len(batch) == 1:
                    questions.refuse(batch[0], failure.reason)
            if in_a_row == MAX_FAILED_BATCHES:
                break
        return failures

    async def _verdict(self, asked: Comparison) -> Verdict:
        assert isinstance(self._oracle, AsyncOracle)
        verdict = await self._oracle.answer(asked.prompt, asked.first, asked.second)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"answer() gave {verdict!r}, expected a text_duel.Verdict")
        return verdict

    def _verdicts(
        self, comparisons: Sequence[Comparison]
    ) -> tuple[dict[int, Verdict], dict[int, str]]:
        """Verdicts by place, and by place what is wrong; blocks."""
        found = ask_oracle_in_part(
            self._oracle,
            [asked.prompt for asked in comparisons],
            [asked.first for asked in comparisons],
            [asked.second for asked in comparisons],
        )
        answers = found.answers
        verdicts = {place: Verdict("skip", reason=why) for place, why in found.skipped.items()}
        for place, probability in enumerate(answers.win_probability):
            if place in found.unanswerable or place in found.skipped:
                continue
            scores = None
            if self._oracle.has_scores:
                scores = float(answers.first_score[place]), float(answers.second_score[place])
            choice: Choice = "first" if probability >= 0.5 else "second"
            verdicts[place] = Verdict(choice, float(probability), scores)
        return verdicts, found.unanswerable

    async def _in_time(
        self, call: Coroutine[Any, Any, Any], keep: Callable[[Any], None]
    ) -> _Failure | None:
        """Awaits a call for as long as agreed; returns why it has no result.

        Its result is kept whenever it comes.

        Raises:
            OracleUnusableError: The oracle does not keep its interface.
        """

        def finish(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and task.exception() is None:
                keep(task.result())

        name, seconds = self._oracle.name, self._keys.oracle_timeout_s
        task = asyncio.ensure_future(call)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.add_done_callback(finish)
            silent = f"oracle {name} did not answer within {seconds:g} s (oracle_timeout_s)"
            return _Failure(silent, final=False)
        if task.cancelled():
            return _Failure(f"oracle {name} broke a question off", final=False)
        error = task.exception()
        if error is None:
            keep(task.result())
            return None
        if isinstance(error, BrokenOracleError):
            raise OracleUnusableError(str(error)) from error
        if isinstance(error, OracleError):
            # Of a batch the cause is what the oracle raised.
            return _Failure(str(error), is_final(error) or is_final(error.__cause__ or error))
        reason = " ".join(str(error).split())
        told = f"oracle {name} could not answer: {type(error).__name__}: {reason}"
        return _Failure(told, is_final(error))


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
