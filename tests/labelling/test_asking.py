"""Whatever an oracle does, what it has answered is kept, and nothing is asked again for nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from rllib_sea.labelling.asking import Asking, Comparison, OracleAwayError
from rllib_sea.settings.labelling import Labelling
from text_duel import AsyncOracle, LengthOracle, Oracle, Prompt, Verdict

QUICK = Labelling(oracle_retries=3, oracle_retry_wait_s=0.01, oracle_timeout_s=30.0)
HASTY = Labelling(oracle_retries=3, oracle_retry_wait_s=0.01, oracle_timeout_s=1.0)


def comparisons(count: int) -> list[Comparison]:
    """Comparison i is of a prompt ``i``; its second response is the longer one."""
    return [Comparison(Prompt(str(i), f"prompt {i}", {}, None), "a", "a b") for i in range(count)]


class Recorded:
    """What came of an :meth:`Asking.ask`."""

    def __init__(self, oracle: Oracle, count: int, keys: Labelling = QUICK) -> None:
        self.verdicts: dict[int, Verdict] = {}
        self.warnings: list[str] = []
        self.error: OracleAwayError | None = None
        asyncio.run(self._ask(oracle, count, keys))

    async def _ask(self, oracle: Oracle, count: int, keys: Labelling) -> None:
        def keep(verdicts: Any) -> None:
            assert not verdicts.keys() & self.verdicts.keys(), "a verdict came twice"
            self.verdicts.update(verdicts)

        try:
            await Asking(oracle, keys, self.warnings.append).ask(comparisons(count), keep)
        except OracleAwayError as error:
            self.error = error
        await asyncio.sleep(0.3)  # for what comes late


class BatchOracle(Oracle):
    """Answers by a function of the prompts' numbers; keeps a record of its calls."""

    name = "batch"

    def __init__(self, answers: Callable[[list[int], int], Sequence[float]]) -> None:
        self._answers = answers
        self.calls: list[list[int]] = []

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        numbers = [int(prompt.id) for prompt in prompts]
        self.calls.append(numbers)
        return np.array(self._answers(numbers, len(self.calls)), dtype=float)


def test_all_are_asked_in_one_batch() -> None:
    oracle = BatchOracle(lambda numbers, call: [0.25 + n / 10 for n in numbers])
    came = Recorded(oracle, 4)
    assert oracle.calls == [[0, 1, 2, 3]]
    assert came.verdicts == {
        i: Verdict("first" if p >= 0.5 else "second", p)
        for i, p in enumerate((0.25, 0.35, 0.45, 0.55))
    }
    assert came.warnings == []


def test_scores_come_with_the_verdict() -> None:
    came = Recorded(LengthOracle(target=2), 1)
    (verdict,) = came.verdicts.values()
    assert verdict.scores == (-1.0, 0.0)
    assert verdict.choice == "second"
    assert verdict.win_probability == pytest.approx(1 / (1 + np.e))


def test_an_answer_in_part_is_kept_and_the_rest_asked_again() -> None:
    """The second half has no answer the first time."""
    oracle = BatchOracle(
        lambda numbers, call: [np.nan if call == 1 and n >= 2 else 0.75 for n in numbers]
    )
    came = Recorded(oracle, 4)
    assert oracle.calls == [[0, 1, 2, 3], [2], [3]]
    assert sorted(came.verdicts) == [0, 1, 2, 3]
    (warning,) = came.warnings
    assert "answered nan for prompt '2', expected a probability in [0, 1]" in warning
    assert "asking again in 0.01 s (1 of 3)" in warning


def test_one_bad_question_holds_up_itself_alone() -> None:
    def answers(numbers: list[int], call: int) -> list[float]:
        if 3 in numbers:
            raise ValueError("three is too many")
        return [0.75] * len(numbers)

    oracle = BatchOracle(answers)
    came = Recorded(oracle, 8)
    assert sorted(came.verdicts) == [0, 1, 2, 4, 5, 6, 7]
    assert came.error is not None
    assert "oracle batch could not answer 1 questions: ValueError: three is too many" in str(
        came.error
    )
    # All at once, then by two, then alone.
    assert oracle.calls == [list(range(8)), [0, 1], [2, 3], [4, 5], [6, 7], [2], [3], [3]]


def test_an_oracle_that_is_away_is_not_asked_about_each_question() -> None:
    def answers(numbers: list[int], call: int) -> list[float]:
        raise ConnectionError("nobody is there")

    oracle = BatchOracle(answers)
    came = Recorded(oracle, 64)
    assert came.verdicts == {}
    assert [len(numbers) for numbers in oracle.calls] == [64, *[16] * 3, *[4] * 3, *[1] * 3]
    assert len(came.warnings) == 3
    assert [w.rsplit("in ", 1)[1] for w in came.warnings] == [
        f"{wait:g} s ({i} of 3)" for i, wait in enumerate((0.01, 0.02, 0.04), start=1)
    ]


def test_an_answer_after_the_time_out_counts_and_is_not_asked_for_again() -> None:
    """It comes while the asking waits before its next attempt."""

    def answers(numbers: list[int], call: int) -> list[float]:
        time.sleep(0.5)
        return [0.75] * len(numbers)

    oracle = BatchOracle(answers)
    keys = Labelling(oracle_retries=1, oracle_retry_wait_s=5.0, oracle_timeout_s=0.1)
    came = Recorded(oracle, 3, keys)
    assert oracle.calls == [[0, 1, 2]]
    assert sorted(came.verdicts) == [0, 1, 2]
    assert came.error is None
    (warning,) = came.warnings
    assert "oracle batch did not answer within 0.1 s (oracle_timeout_s)" in warning


def test_a_call_that_hangs_is_asked_again_and_a_second_answer_counts_for_nothing() -> None:
    """The first call answers when the second one has: for the others, which are not asked again."""
    held = threading.Event()

    def answers(numbers: list[int], call: int) -> list[float]:
        if call == 1:
            held.wait(10.0)
            return [0.1] * len(numbers)
        held.set()
        time.sleep(0.3)
        return [0.9] * len(numbers)

    oracle = BatchOracle(answers)
    came = Recorded(
        oracle, 8, Labelling(oracle_retries=2, oracle_retry_wait_s=0.01, oracle_timeout_s=0.1)
    )
    assert oracle.calls == [list(range(8)), [0, 1]]
    assert [came.verdicts[i].win_probability for i in range(8)] == [0.1] * 8
    assert came.error is None


class OneByOne(AsyncOracle):
    """Answers by a coroutine of the question's number and the number of its try."""

    name = "one by one"

    def __init__(self, answer: Callable[[int, int], Any]) -> None:
        self._answer = answer
        self.tries: dict[int, int] = {}
        self.at_once = 0
        self.most_at_once = 0

    async def answer(self, prompt: Prompt, first: str, second: str) -> Verdict:
        number = int(prompt.id)
        self.tries[number] = self.tries.get(number, 0) + 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(number, self.tries[number])
        finally:
            self.at_once -= 1


def test_an_asynchronous_oracle_has_many_questions_at_once_and_no_more() -> None:
    async def answer(number: int, tried: int) -> Verdict:
        await asyncio.sleep(0.01)
        return Verdict("tie" if number % 2 else "skip", reason="odd")

    oracle = OneByOne(answer)
    came = Recorded(oracle, 20, Labelling(oracle_concurrency=5))
    assert oracle.most_at_once == 5
    assert set(oracle.tries.values()) == {1}
    assert [came.verdicts[i].choice for i in range(4)] == ["skip", "tie", "skip", "tie"]


def test_questions_of_an_asynchronous_oracle_fail_one_by_one() -> None:
    async def answer(number: int, tried: int) -> Verdict:
        if number == 1 and tried < 3:
            raise ConnectionError("line is busy")
        if number == 2 and tried == 1:
            await asyncio.sleep(10.0)
        return Verdict("first")

    oracle = OneByOne(answer)
    came = Recorded(
        oracle, 4, Labelling(oracle_retries=3, oracle_retry_wait_s=0.01, oracle_timeout_s=0.1)
    )
    assert came.error is None
    assert sorted(came.verdicts) == [0, 1, 2, 3]
    assert oracle.tries == {0: 1, 1: 3, 2: 2, 3: 1}
    assert "could not answer: ConnectionError: line is busy" in came.warnings[0]


def test_what_is_withdrawn_is_not_asked_again() -> None:
    """Question 1 fails; it is withdrawn before its next try, and nobody is away."""
    withdrawn: set[int] = set()

    async def fails_once_for_all(number: int, tried: int) -> Verdict:
        if number == 1:
            withdrawn.add(1)
            raise ConnectionError("gone home")
        return Verdict("first")

    def fails_for_one(numbers: list[int], call: int) -> list[float]:
        withdrawn.add(1)
        return [np.nan if n == 1 else 0.75 for n in numbers]

    one_by_one, batch = OneByOne(fails_once_for_all), BatchOracle(fails_for_one)
    for oracle in (one_by_one, batch):
        withdrawn.clear()
        came: dict[int, Verdict] = {}
        asking = Asking(oracle, QUICK, lambda text: None)
        asyncio.run(asking.ask(comparisons(3), came.update, withdrawn.__contains__))
        assert sorted(came) == [0, 2]
    assert one_by_one.tries == {0: 1, 1: 1, 2: 1}
    assert batch.calls == [[0, 1, 2]]


def test_an_asynchronous_oracle_compares_in_batches_too() -> None:
    async def answer(number: int, tried: int) -> Verdict:
        choices: list[Any] = ["first", "second", "tie", "skip", "first"]
        return Verdict(choices[number], win_probability=0.75 if number == 4 else None)

    asked = comparisons(5)
    found = OneByOne(answer).compare(
        [c.prompt for c in asked], [c.first for c in asked], [c.second for c in asked]
    )
    np.testing.assert_array_equal(found, [1.0, 0.0, 0.5, np.nan, 0.75])


def test_scores_are_asked_for_again_if_they_fail() -> None:
    class Scores(LengthOracle):
        calls = 0

        def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError("once")
            return super().score(prompts, responses)

    warnings: list[str] = []
    prompt = comparisons(1)[0].prompt
    asking = Asking(Scores(target=2), QUICK, warnings.append)
    assert asyncio.run(asking.score([prompt, prompt], ["a", "a b"])) == [-1.0, 0.0]
    assert "ConnectionError: once; asking again" in warnings[0]
