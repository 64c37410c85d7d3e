"""What an oracle has answered is kept, nothing is asked again for nothing, and one question that
it cannot answer holds up no other."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from rllib_sea.labelling import asking as asking_module
from rllib_sea.labelling.asking import (
    Asking,
    Comparison,
    OracleAwayError,
    OracleUnusableError,
)
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
        self.refused: dict[int, str] = {}
        asyncio.run(self._ask(oracle, count, keys))

    async def _ask(self, oracle: Oracle, count: int, keys: Labelling) -> None:
        def keep(verdicts: Any) -> None:
            assert not verdicts.keys() & self.verdicts.keys(), "a verdict came twice"
            self.verdicts.update(verdicts)

        try:
            asking = Asking(oracle, keys, self.warnings.append, self.warnings.append)
            self.refused = await asking.ask(comparisons(count), keep)
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


def test_what_is_not_decided_is_skipped_with_its_reason_and_not_asked_again() -> None:
    oracle = BatchOracle(lambda numbers, call: [np.nan if n == 2 else 0.75 for n in numbers])
    came = Recorded(oracle, 4)
    assert oracle.calls == [[0, 1, 2, 3]]
    skipped = came.verdicts.pop(2)
    assert skipped == Verdict("skip", reason="oracle batch answered nan for prompt '2'")
    assert {verdict.choice for verdict in came.verdicts.values()} == {"first"}
    assert (came.warnings, came.refused, came.error) == ([], {}, None)


class Scored(LengthOracle):
    """Gives one prompt's responses a score that is no number."""

    def __init__(self, prompt: str, score: float) -> None:
        super().__init__(target=2)
        self._odd = prompt, score

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        prompt, odd = self._odd
        scores = super().score(prompts, responses)
        return np.where([p.id == prompt for p in prompts], odd, scores)


def test_a_score_that_is_no_number_is_skipped_and_an_infinite_one_is_no_answer() -> None:
    came = Recorded(Scored("1", np.nan), 3)
    assert came.verdicts[1].choice == "skip"
    assert "(scores nan and nan)" in str(came.verdicts[1].reason)
    assert sorted(came.verdicts) == [0, 1, 2]
    came = Recorded(Scored("1", np.inf), 3)
    assert sorted(came.verdicts) == [0, 2]
    assert "gave the score inf for prompt '1', expected a finite number" in came.refused[1]
    assert came.error is None


def fails_at(bad: int, error: Exception) -> Callable[[list[int], int], list[float]]:
    def answers(numbers: list[int], call: int) -> list[float]:
        if bad in numbers:
            raise error
        return [0.75] * len(numbers)

    return answers


def test_a_question_that_can_never_be_answered_holds_up_itself_alone() -> None:
    """Nobody waits for it, and it is not asked a second time alone."""
    oracle = BatchOracle(fails_at(3, ValueError("three is too many")))
    came = Recorded(oracle, 8)
    assert sorted(came.verdicts) == [0, 1, 2, 4, 5, 6, 7]
    reason = "oracle batch could not answer 1 questions: ValueError: three is too many"
    assert came.refused == {3: reason}
    assert (came.error, came.warnings) == (None, [])
    # All at once, then by two, then alone.
    assert oracle.calls == [list(range(8)), [0, 1], [2, 3], [4, 5], [6, 7], [2], [3]]


def test_a_question_that_fails_in_every_attempt_is_given_up_where_others_are_answered() -> None:
    oracle = BatchOracle(fails_at(3, ConnectionError("busy")))
    came = Recorded(oracle, 8)
    assert sorted(came.verdicts) == [0, 1, 2, 4, 5, 6, 7]
    assert list(came.refused) == [3]
    assert came.refused[3].startswith("asked 4 times without an answer: oracle batch could not")
    assert came.error is None
    assert [warning[:6] for warning in came.warnings] == ["8 of 8", "2 of 8", "1 of 8"]
    # Of more that fail, the oracle is away: its questions stay open.
    one_by_one = OneByOne(_answers_the_first_only)
    came = Recorded(one_by_one, 4)
    assert (sorted(came.verdicts), came.refused) == ([0], {})
    assert isinstance(came.error, OracleAwayError)
    assert "once the oracle answers" in came.error.way_on


async def _answers_the_first_only(number: int, tried: int) -> Verdict:
    if number:
        raise ConnectionError("gone")
    return Verdict("first")


@pytest.mark.parametrize("number", [1, 2, 3, 64])
def test_an_oracle_that_cannot_succeed_is_not_waited_for(number: int) -> None:
    """Its questions stay open once it is known for it; so few that nobody can know are refused."""
    oracle = BatchOracle(lambda numbers, call: [0.5 + "one" for _ in numbers])  # type: ignore[operator]
    came = Recorded(oracle, number)
    assert (came.verdicts, came.warnings) == ({}, [])
    if number < 3:
        assert len(came.refused) == number
        return
    assert isinstance(came.error, OracleUnusableError)
    assert "could not answer 1 questions: TypeError: unsupported operand" in str(came.error)
    assert "once the oracle is mended" in came.error.way_on
    assert len(oracle.calls) <= 10


def test_an_oracle_that_refuses_one_question_after_another_cannot_succeed() -> None:
    """Rounds of one question: their prompts would be without end."""

    async def run() -> list[dict[int, str]]:
        asking = Asking(BatchOracle(fails_at(0, TypeError("no"))), QUICK, lambda text: None)
        refused = [await asking.ask(comparisons(1), lambda v: None) for _ in range(2)]
        with pytest.raises(OracleUnusableError, match="TypeError: no"):
            await asking.ask(comparisons(1), lambda v: None)
        return refused

    assert [list(refused) for refused in asyncio.run(run())] == [[0], [0]]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([1.5, 0.5, 0.5], r"answered 1.5 for prompt '0', expected a probability in \[0, 1\]"),
        ([0.5, 0.5], r"compare\(\) gave shape \(2,\), expected \(3,\)"),
        ([[0.5] * 3], r"compare\(\) gave shape \(1, 3\), expected \(3,\)"),
    ],
)
def test_an_oracle_that_breaks_its_interface_is_asked_once(answer: Any, expected: str) -> None:
    oracle = BatchOracle(lambda numbers, call: answer)
    came = Recorded(oracle, 3)
    assert len(oracle.calls) == 1
    assert isinstance(came.error, OracleUnusableError)
    assert re.search(expected, str(came.error))


def test_an_oracle_that_lacks_its_scores_is_not_waited_for() -> None:
    """It says that it has some, and inherits the method that says that it has none."""

    class NoScores(BatchOracle):
        has_scores = True

    came = Recorded(NoScores(lambda numbers, call: [0.5] * len(numbers)), 8)
    assert isinstance(came.error, OracleUnusableError)
    assert "oracle batch has no scores" in str(came.error)
    assert came.warnings == []


@pytest.mark.parametrize("verdict", [None, 0.7, "first"])
def test_an_asynchronous_oracle_gives_verdicts(verdict: Any) -> None:
    async def answer(number: int, tried: int) -> Verdict:
        return verdict if number == 1 else Verdict("first")

    came = Recorded(OneByOne(answer), 3)
    assert sorted(came.verdicts) == [0, 2]
    assert f"answer() gave {verdict!r}, expected a text_duel.Verdict" in came.refused[1]


def test_a_question_that_is_broken_off_is_asked_again() -> None:
    async def answer(number: int, tried: int) -> Verdict:
        if tried == 1:
            raise asyncio.CancelledError
        return Verdict("first")

    assert sorted(Recorded(OneByOne(answer), 2).verdicts) == [0, 1]


def test_a_wait_is_shown_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is waited for, since when, how many questions; and of a failure what it was."""
    monkeypatch.setattr(asking_module, "SHOW_WAIT_S", 0.05)

    async def answer(number: int, tried: int) -> Verdict:
        await asyncio.sleep(0.2 if number == 1 else 0.0)
        if number == 1 and tried == 1:
            raise ConnectionError("line is busy")
        return Verdict("first")

    waits, failed = Recorded(OneByOne(answer), 3).warnings
    clock = r"\d\d:\d\d:\d\d"
    pattern = rf"waiting for oracle one by one since {clock}: 1 of 3 questions have no answer yet"
    assert re.fullmatch(pattern, waits)
    assert re.fullmatch(
        rf"1 of 3 questions of {clock} have no answer: oracle one by one could not answer: "
        r"ConnectionError: line is busy; asking again in 0.01 s \(1 of 3\)",
        failed,
    )


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
        if 1 in numbers:
            withdrawn.add(1)
            raise ConnectionError("gone home")
        return [0.75] * len(numbers)

    one_by_one, batch = OneByOne(fails_once_for_all), BatchOracle(fails_for_one)
    for oracle in (one_by_one, batch):
        withdrawn.clear()
        came: dict[int, Verdict] = {}
        asking = Asking(oracle, QUICK, lambda text: None)
        asyncio.run(asking.ask(comparisons(3), came.update, withdrawn.__contains__))
        assert sorted(came) == [0, 2]
    assert one_by_one.tries == {0: 1, 1: 1, 2: 1}
    assert batch.calls == [[0, 1, 2], [0], [2]]


def test_an_asynchronous_oracle_compares_in_batches_too() -> None:
    async def answer(number: int, tried: int) -> Verdict:
        choices: list[Any] = ["first", "second", "tie", "skip", "first"]
        return Verdict(choices[number], win_probability=0.75 if number == 4 else None)

    asked = comparisons(5)
    found = OneByOne(answer).compare(
        [c.prompt for c in asked], [c.first for c in asked], [c.second for c in asked]
    )
    np.testing.assert_array_equal(found, [1.0, 0.0, 0.5, np.nan, 0.75])


class Scores(LengthOracle):
    """Raises at the first call, or at one text."""

    def __init__(self, error: Exception, at: str | None = None) -> None:
        super().__init__(target=2)
        self.calls = 0
        self._error, self._at = error, at

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        self.calls += 1
        if self._at in responses or (self._at is None and self.calls == 1):
            raise self._error
        return super().score(prompts, responses)


@pytest.mark.parametrize("error", [ConnectionError("once"), KeyError("once")])
def test_a_score_that_raises_once_is_asked_for_again(error: Exception) -> None:
    warnings: list[str] = []
    prompt = comparisons(1)[0].prompt
    asking = Asking(Scores(error), QUICK, warnings.append)
    scores, refused = asyncio.run(asking.score([prompt, prompt], ["a", "a b"]))
    assert (scores, refused) == ([-1.0, 0.0], {})
    assert len(warnings) == isinstance(error, ConnectionError)


def test_a_score_that_always_raises_for_one_response_is_no_number() -> None:
    prompt = comparisons(1)[0].prompt
    asking = Asking(Scores(IndexError("odd"), "odd"), QUICK, lambda text: None)
    scores, refused = asyncio.run(asking.score([prompt] * 3, ["a", "odd", "a b"]))
    np.testing.assert_array_equal(scores, [-1.0, np.nan, 0.0])
    assert list(refused) == [1]
    assert "IndexError: odd" in refused[1]


def test_scores_of_another_shape_or_kind_are_no_scores() -> None:
    class Wrong(LengthOracle):
        given: Any = None

        def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
            return self.given

    prompt = comparisons(1)[0].prompt
    for given, expected in (
        ([[1.0]], r"score\(\) gave shape \(1, 1\), expected \(3,\)"),
        (["good"] * 3, "could not convert string to float"),
    ):
        oracle = Wrong()
        oracle.given = given
        asking = Asking(oracle, QUICK, lambda text: None)
        with pytest.raises(OracleUnusableError, match=expected):
            asyncio.run(asking.score([prompt] * 3, ["a", "b", "c"]))
