"""The labeller without Ray: a log, an oracle and an event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rllib_sea.labelling.asking import Comparison, OracleAwayError, OracleUnusableError
from rllib_sea.labelling.labeller import Labeller
from rllib_sea.labelling.labeller_settings import LabellerSettings
from rllib_sea.preference_log.log import LOG_FILE, PreferenceReader
from rllib_sea.preference_log.records import PreferenceLogError, Question, RunRecord
from rllib_sea.randomness import Stream, integer_seeds
from rllib_sea.settings.labelling import Labelling
from tests.helpers.preference_log_cases import question
from tests.helpers.scripted_oracle import Scripted
from text_duel import Label, TextDuelEnv, Verdict, load_prompts

RUN = RunRecord("run", 3, "tiny", False)
PROMPTS = load_prompts("tldr_mini")
BY_KEY = {(prompt.id, prompt.text): prompt for prompt in PROMPTS}


@pytest.fixture
def scripted() -> Iterator[type[Scripted]]:
    Scripted.tries = {}
    yield Scripted
    del Scripted.tries


def asked(round_index: int, count: int) -> list[Question]:
    """Questions about the first prompts of the bundled set; number = 10 * round + position."""
    questions = []
    for position in range(count):
        case = question(round_index, position)
        prompt = PROMPTS[position]
        first = type(case.first)(str(10 * round_index + position), (1,), (-0.5,), "stop")
        changes = {"prompt_id": prompt.id, "prompt_text": prompt.text, "first": first}
        questions.append(question(round_index, position, **changes))
    return questions


def settings(
    tmp_path: Path, env_config: dict[str, Any] | None = None, **keys: Any
) -> LabellerSettings:
    patience = {"oracle_retries": 2, "oracle_retry_wait_s": 0.01, "oracle_timeout_s": 5.0}
    return LabellerSettings(
        log=tmp_path / LOG_FILE,
        run=RUN,
        env_config=env_config or {"oracle": "tests.helpers.scripted_oracle:Scripted"},
        keys=Labelling(**(patience | keys)),
    )


def test_the_label_is_the_environments(tmp_path: Path) -> None:
    """Drawn by its rule, from the same place: what a run labelled before, it labels now."""
    env_config = {
        "prompts": "tldr_mini",
        "oracle": "length",
        "oracle_config": {"target": 2},
        "labels": "bradley_terry",
        "flip_noise": 0.2,
    }

    async def run() -> list[Any]:
        labeller = Labeller(settings(tmp_path, env_config=env_config))
        identity = await labeller.start()
        assert (identity.name, identity.has_scores) == ("length(target=2)", True)
        await labeller.ask(0, asked(0, 40))
        await labeller.label(0, BY_KEY)
        await labeller.close()
        with PreferenceReader(tmp_path / LOG_FILE) as log:
            return log.round(0)

    entries = asyncio.run(run())
    env = TextDuelEnv(**env_config)
    seeds = integer_seeds(RUN.seed, 0, range(40), Stream.LABEL)
    for entry, seed in zip(entries, seeds, strict=True):
        env.reset(seed=seed, options={"prompt_index": entry.question.position})
        info = env.step((entry.question.first.text, entry.question.second.text))[4]
        verdict = entry.verdicts[0].verdict
        assert verdict.choice == ("first" if info["first_wins"] else "second")
        assert verdict.win_probability == info["win_probability"]
        assert verdict.scores == (info["first_score"], info["second_score"])
        assert entry.label == Label(float(info["first_wins"]))
    assert {entry.verdicts[0].verdict.choice for entry in entries} == {"first", "second"}


def test_every_verdict_is_written_when_it_comes(tmp_path: Path, scripted: type[Scripted]) -> None:
    """The oracle goes away in a round: what it answered is in the log, and stays there."""

    async def script(number: int, tried: int) -> Verdict:
        if number >= 2:
            raise ConnectionError("gone home")
        return Verdict("tie" if number == 1 else "first")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path))
        await labeller.ask(0, asked(0, 5))
        with pytest.raises(OracleAwayError, match="ConnectionError: gone home"):
            await labeller.label(0, BY_KEY)
        warnings = await labeller.take_warnings()
        assert len(warnings) == 2
        assert await labeller.take_warnings() == []
        await labeller.close()
        # Another labeller, as after a restart: it asks what is open, and nothing else.
        again = Labeller(settings(tmp_path))
        with pytest.raises(OracleAwayError):
            await again.label(0, BY_KEY)
        closed = await again.close_round(0)
        assert [lesson.label.preference for lesson in closed.lessons] == [1.0, 0.5]
        assert (closed.num_answered, closed.num_open) == (2, 3)
        await again.close()

    asyncio.run(run())
    assert scripted.tries == {0: 1, 1: 1, 2: 6, 3: 6, 4: 6}


@pytest.mark.parametrize("error", [ConnectionError("gone home"), TypeError("no such thing")])
def test_a_question_that_cannot_be_answered_is_withdrawn_and_the_round_goes_on(
    tmp_path: Path, scripted: type[Scripted], error: Exception
) -> None:
    """It costs nothing, a skip costs a query; both are in the log with their reasons."""

    async def script(number: int, tried: int) -> Verdict:
        if number == 2:
            raise error
        return Verdict("skip", reason="not my field") if number == 1 else Verdict("first")

    scripted.script = script

    async def run() -> list[str]:
        labeller = Labeller(settings(tmp_path))
        await labeller.ask(0, asked(0, 4))
        await labeller.label(0, BY_KEY)
        closed = await labeller.close_round(0)
        assert (closed.num_answered, closed.num_open, len(closed.lessons)) == (3, 0, 2)
        await labeller.close()
        return await labeller.take_warnings()

    warnings = asyncio.run(run())
    told = [w for w in warnings if w.startswith(("round 0", "1 question is"))]
    skip, withdrawn = told
    assert skip == (
        "round 0, position 1: nothing to learn, skip: not my field; from now on see "
        "num_skipped_questions"
    )
    assert withdrawn.startswith("1 question is withdrawn: ")
    assert str(error) in withdrawn
    assert scripted.tries[2] == (3 if isinstance(error, ConnectionError) else 1)
    with PreferenceReader(tmp_path / LOG_FILE) as log:
        assert [entry.state for entry in log.round(0)] == [
            *("answered", "answered", "withdrawn", "answered")
        ]
        assert (log.num_skipped(), log.num_withdrawn()) == (1, 1)
        ((reason,),) = log.query("SELECT reason FROM withdrawals")
        assert str(error) in reason


def test_an_oracle_that_decides_nothing_does_not_use_the_budget_up(
    tmp_path: Path, scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rllib_sea.labelling.labeller.MAX_SKIPS_IN_A_ROW", 5)

    async def script(number: int, tried: int) -> Verdict:
        return Verdict("skip")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path))
        await labeller.ask(0, asked(0, 4))
        await labeller.label(0, BY_KEY)
        await labeller.ask(1, asked(1, 4))
        with pytest.raises(OracleUnusableError, match="has skipped 8 questions in a row"):
            await labeller.label(1, BY_KEY)
        await labeller.close()

    asyncio.run(run())


def test_measuring_is_not_waited_for_twice(tmp_path: Path, scripted: type[Scripted]) -> None:
    """An oracle that fails to measure is tried once the next time; if it answers, as agreed."""
    is_away = True

    async def script(number: int, tried: int) -> Verdict:
        if is_away:
            raise ConnectionError("gone home")
        if number == 0:
            raise KeyError("odd")
        return Verdict("first")

    scripted.script = script

    async def run() -> None:
        nonlocal is_away
        labeller = Labeller(settings(tmp_path))
        comparisons = [Comparison(PROMPTS[0], str(i), "b") for i in range(3)]
        for tries in (3, 4):
            with pytest.raises(OracleAwayError):
                await labeller.compare(comparisons)
            assert scripted.tries == {0: tries, 1: tries, 2: tries}
        is_away = False
        first, *others = await labeller.compare(comparisons)
        assert first != first  # NaN
        assert others == [1.0, 1.0]
        assert "1 of 3 measurements have no value: " in (await labeller.take_warnings())[-1]
        is_away = True
        with pytest.raises(OracleAwayError):
            await labeller.compare(comparisons)
        assert scripted.tries[1] == 8
        await labeller.close()

    asyncio.run(run())


def test_a_question_whose_prompt_is_gone_is_withdrawn_and_holds_nobody_up(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    async def script(number: int, tried: int) -> Verdict:
        return Verdict("first")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path))
        await labeller.ask(0, asked(0, 3))
        left = dict(BY_KEY)
        left[PROMPTS[1].id, PROMPTS[1].text] = None
        await labeller.label(0, left)
        (warning,) = await labeller.take_warnings()
        assert warning == (
            "1 question is withdrawn: no training prompts of the run any more: gone, edited or "
            "held out, such as 'tldr-mini-0001' of round 0"
        )
        closed = await labeller.close_round(0)
        assert [lesson.position for lesson in closed.lessons] == [0, 2]
        assert (closed.num_answered, closed.num_open) == (2, 0)
        await labeller.close()

    asyncio.run(run())
    assert scripted.tries == {0: 1, 2: 1}


def test_a_round_that_waits_for_a_share_learns_from_late_answers_in_the_next(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    late = asyncio.Event()

    async def script(number: int, tried: int) -> Verdict:
        if number == 3:
            await late.wait()
        return Verdict("first")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, wait_for=0.75))
        await labeller.ask(0, asked(0, 4))
        await labeller.label(0, BY_KEY)
        closed = await labeller.close_round(0)
        assert [lesson.position for lesson in closed.lessons] == [0, 1, 2]
        assert (closed.num_answered, closed.num_open) == (3, 1)
        await labeller.ask(1, asked(1, 4))
        late.set()
        await labeller.label(1, BY_KEY, wait_for=1.0)
        closed = await labeller.close_round(1)
        places = [(lesson.round, lesson.position) for lesson in closed.lessons]
        assert places == [(0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]
        assert (closed.num_answered, closed.num_open) == (8, 0)
        # A round that is done again learns from what it learned from.
        assert len((await labeller.close_round(0)).lessons) == 3
        await labeller.close()

    asyncio.run(run())
    assert set(scripted.tries.values()) == {1}, "nobody is asked twice"


def test_a_failure_between_rounds_is_forgotten_if_the_next_round_succeeds(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    """Three fail after their round has learned; asked again in the next one, they are answered."""
    come_back = asyncio.Event()

    async def script(number: int, tried: int) -> Verdict:
        if 1 <= number <= 3 and tried <= 3:
            await come_back.wait()
            raise ConnectionError("gone home")
        return Verdict("first")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, wait_for=0.25))
        await labeller.ask(0, asked(0, 4))
        await labeller.label(0, BY_KEY)
        assert (await labeller.close_round(0)).num_open == 3
        come_back.set()
        while labeller._in_flight.ids:
            await asyncio.sleep(0.01)
        await labeller.ask(1, asked(1, 1))
        await labeller.label(1, BY_KEY, wait_for=1.0)
        assert (await labeller.close_round(1)).num_answered == 5
        await labeller.close()

    asyncio.run(run())


def test_a_round_asks_ahead_and_learns_from_the_round_before(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    """Nobody waits for what was just asked, and nothing is learned from it, answered or not."""
    answers = {number: asyncio.Event() for number in (0, 1, 10, 11)}

    async def script(number: int, tried: int) -> Verdict:
        await answers[number].wait()
        return Verdict("first")

    scripted.script = script

    async def learned(labeller: Labeller, round_index: int) -> list[tuple[int, int]]:
        closed = await labeller.close_round(round_index)
        return [(lesson.round, lesson.position) for lesson in closed.lessons]

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, ask_ahead=True, withdraw_after=1))
        await labeller.ask(0, asked(0, 2))
        await labeller.label(0, BY_KEY)
        answers[0].set()
        while labeller._log.num_answered() < 1:
            await asyncio.sleep(0.01)
        assert await learned(labeller, 0) == []
        await labeller.ask(1, asked(1, 2))
        waiting = asyncio.create_task(labeller.label(1, BY_KEY))
        answers[10].set()
        while labeller._log.num_answered() < 2:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await labeller.close()
        waiting.cancel()
        # A new process in the middle of round 1 asks what is open, and waits for round 0 alone.
        again = Labeller(settings(tmp_path, ask_ahead=True, withdraw_after=1))
        waiting = asyncio.create_task(again.label(1, BY_KEY))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        answers[1].set()
        await waiting
        assert await learned(again, 1) == [(0, 0), (0, 1)]
        # The budget is used: a round without questions learns from all that there is.
        await again.ask(2, [])
        answers[11].set()
        await again.label(2, BY_KEY, wait_for=1.0)
        assert await learned(again, 2) == [(1, 0), (1, 1)]
        assert await again.take_warnings() == []
        await again.close()

    asyncio.run(run())


def test_a_deadline_and_withdrawn_questions(tmp_path: Path, scripted: type[Scripted]) -> None:
    """Question 1 is never answered in time; when it is, two rounds later, it counts for nothing."""
    late = asyncio.Event()

    async def script(number: int, tried: int) -> Verdict:
        if number == 1:
            await late.wait()
        return Verdict("second", win_probability=0.25)

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, label_deadline_s=0.2, withdraw_after=1))
        await labeller.ask(0, asked(0, 2))
        await labeller.label(0, BY_KEY)
        (warning,) = await labeller.take_warnings()
        assert "1 of the 2 labels of round 0 have not come within 0.2 s" in warning
        assert (await labeller.close_round(0)).num_open == 1
        await labeller.ask(1, asked(1, 1))
        await labeller.label(1, BY_KEY)
        (warning,) = await labeller.take_warnings()
        assert warning == "1 question is withdrawn: not answered within 1 rounds"
        closed = await labeller.close_round(1)
        assert (closed.num_answered, closed.num_open) == (2, 0)
        late.set()
        await asyncio.sleep(0.05)
        await labeller.close()

    asyncio.run(run())
    with PreferenceReader(tmp_path / LOG_FILE) as log:
        _, withdrawn = log.round(0)
        assert (withdrawn.state, withdrawn.label) == ("withdrawn", None)
        assert withdrawn.verdicts[0].verdict.choice == "second", "what was said is kept"
        assert (log.num_answered(), log.num_withdrawn()) == (2, 1)


def test_a_withdrawn_question_is_not_asked_again(tmp_path: Path, scripted: type[Scripted]) -> None:
    """Question 1 is withdrawn while the oracle fails at it: its next try is left out."""
    withdrawn = asyncio.Event()

    async def script(number: int, tried: int) -> Verdict:
        if number == 1:
            await withdrawn.wait()
            raise ConnectionError("gone home")
        return Verdict("first")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, wait_for=0.5, withdraw_after=1))
        await labeller.ask(0, asked(0, 2))
        await labeller.label(0, BY_KEY)
        await labeller.close_round(0)
        await labeller.ask(1, asked(1, 1))
        labelling = asyncio.create_task(labeller.label(1, BY_KEY, wait_for=1.0))
        await asyncio.sleep(0.05)
        withdrawn.set()
        await labelling
        closed = await labeller.close_round(1)
        assert (closed.num_answered, closed.num_open) == (2, 0)
        assert await labeller.take_warnings() == [
            "1 question is withdrawn: not answered within 1 rounds"
        ]
        await labeller.close()

    asyncio.run(run())
    assert scripted.tries == {0: 1, 1: 1, 10: 1}


def test_a_round_that_was_asked_is_returned_and_asked(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    """What was written by another labeller is asked, whatever is selected now."""

    async def script(number: int, tried: int) -> Verdict:
        return Verdict("first")

    scripted.script = script

    async def run() -> None:
        labeller = Labeller(settings(tmp_path))
        assert await labeller.ask(0, asked(0, 2)) == []
        await labeller.close()
        again = Labeller(settings(tmp_path))
        before = await again.ask(0, asked(0, 3))
        assert [entry.question for entry in before] == asked(0, 2)
        await again.label(0, BY_KEY)
        assert (await again.close_round(0)).num_answered == 2
        await again.close()

    asyncio.run(run())
    assert scripted.tries == {0: 1, 1: 1}


def test_measuring_is_not_in_the_log(tmp_path: Path, scripted: type[Scripted]) -> None:
    async def script(number: int, tried: int) -> Verdict:
        return Verdict("skip") if number else Verdict("first", win_probability=0.75)

    scripted.script = script

    async def run() -> list[float]:
        labeller = Labeller(settings(tmp_path))
        await labeller.start()
        found = await labeller.compare([Comparison(PROMPTS[0], str(i), "b") for i in range(2)])
        await labeller.close()
        return found

    first, second = asyncio.run(run())
    assert first == 0.75
    assert second != second  # NaN: it was skipped
    with PreferenceReader(tmp_path / LOG_FILE) as log:
        assert log.num_questions() == 0


def test_a_log_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    async def run() -> None:
        labeller = Labeller(settings(tmp_path, env_config={}))
        (tmp_path / LOG_FILE).write_text("no log " * 100)
        with pytest.raises(PreferenceLogError, match="no SQLite file"):
            await labeller.start()
        await labeller.close()

    asyncio.run(run())


def test_a_round_need_not_wait_for_all_people(tmp_path: Path) -> None:
    """`wait_for` and `withdraw_after` are as for any oracle; who answers later is learned from."""
    people = {"oracle": "people", "oracle_config": {"raters": ["ann"], "undo_s": 0.0}}

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, people, wait_for=0.5, withdraw_after=2))
        assert (await labeller.start()).asks_people
        base, _, token = (await labeller.open_page())["ann"].partition("/#")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=base, headers=headers) as ann:

            async def answer(number: int) -> None:
                for shown in (await ann.post("/api/next", json={"count": number})).json():
                    body = {"question": shown["id"], "choice": "tie"}
                    assert (await ann.post("/api/answer", json=body)).json()["status"] == "kept"

            await labeller.ask(0, asked(0, 4))
            waiting = asyncio.create_task(labeller.label(0, BY_KEY))
            await answer(1)
            assert not waiting.done()
            await answer(1)
            await asyncio.wait_for(waiting, 5.0)
            closed = await labeller.close_round(0)
            assert (len(closed.lessons), closed.num_open) == (2, 2)
            assert await labeller.take_waits() == ["4 questions wait for people"]
            await labeller.ask(1, asked(1, 2))
            waiting = asyncio.create_task(labeller.label(1, BY_KEY))
            await answer(2)  # the oldest first
            await answer(1)
            await asyncio.wait_for(waiting, 5.0)
            closed = await labeller.close_round(1)
            assert [lesson.round for lesson in closed.lessons] == [0, 0, 1]
            await labeller.ask(3, asked(3, 1))
            waiting = asyncio.create_task(labeller.label(3, BY_KEY))
            await answer(1)
            await asyncio.wait_for(waiting, 5.0)
            assert (await labeller.close_round(3)).num_open == 0
            assert await labeller.take_warnings() == [
                "1 question is withdrawn: not answered within 2 rounds"
            ]
        await labeller.close()

    asyncio.run(run())


def test_a_round_waits_for_all_raters_whom_its_labels_need(tmp_path: Path) -> None:
    """Two judge each question; one says the opposite, also of the gold questions, and is found."""
    gold = [{"prompt": f"gold {i}", "chosen": "good", "rejected": "bad"} for i in range(8)]
    (tmp_path / "gold.jsonl").write_text("\n".join(map(json.dumps, gold)))
    config = {
        **{"raters": ["ann", "eve"], "undo_s": 0.0, "gold": str(tmp_path / "gold.jsonl")},
        **{"labels_by": "reliability", "raters_per_question": 2, "gold_share": 0.5},
    }
    people = {"oracle": "people", "oracle_config": config}

    async def run() -> None:
        labeller = Labeller(settings(tmp_path, people))
        await labeller.start()
        links = await labeller.open_page()
        await labeller.ask(0, asked(0, 10))
        waiting = asyncio.create_task(labeller.label(0, BY_KEY))
        for rater in ("ann", "eve"):
            await asyncio.sleep(0.1)
            assert not waiting.done()
            base, _, token = links[rater].partition("/#")
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=base, headers=headers) as client:
                while shown := (await client.post("/api/next", json={"count": 4})).json():
                    for one in shown:
                        # The first response of `asked` is a number.
                        is_better = one["left"] == "good" or one["left"].isdigit()
                        choice = "left" if is_better == (rater == "ann") else "right"
                        body = {"question": one["id"], "choice": choice}
                        await client.post("/api/answer", json=body)
        await asyncio.wait_for(waiting, 5.0)
        closed = await labeller.close_round(0)
        assert (closed.num_answered, closed.num_open, len(closed.lessons)) == (10, 0, 10)
        assert {lesson.label.preference for lesson in closed.lessons} == {1.0}, "ann is right"
        assert min(lesson.label.weight for lesson in closed.lessons) > 0.8
        await labeller.close()

    asyncio.run(run())
    with PreferenceReader(tmp_path / LOG_FILE) as log:
        assert log.reliabilities()["ann"][1] > 0.6 > log.reliabilities()["eve"][2]
        assert {entry.label_rule for entry in log.read()} == {"reliability"}


def test_people_judge_an_evaluation_once(tmp_path: Path) -> None:
    """By another process, too; who does not answer in time holds nothing up."""
    people = {"oracle": "people", "oracle_config": {"raters": ["ann"], "undo_s": 0.0}}
    questions = [question(2, i, purpose="evaluation") for i in range(4)]

    async def run() -> None:
        for number in (1, 2):
            labeller = Labeller(settings(tmp_path, people, label_deadline_s=2.0))
            await labeller.start()
            base, _, token = (await labeller.open_page())["ann"].partition("/#")
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=base, headers=headers) as ann:
                judging = asyncio.create_task(labeller.judge(2, questions))
                await asyncio.sleep(0)
                for shown in (await ann.post("/api/next", json={"count": number})).json():
                    body = {"question": shown["id"], "choice": "tie"}
                    assert (await ann.post("/api/answer", json=body)).json()["status"] == "kept"
                if number == 1:  # the process dies here
                    judging.cancel()
                else:
                    entries = await judging
                    assert (await labeller.take_waits())[0].startswith("3 questions wait for peop")
            warnings = await labeller.take_warnings()
            await labeller.close()
        assert [entry.state for entry in entries] == ["answered"] * 3 + ["withdrawn"]
        assert [len(entry.verdicts) for entry in entries] == [1, 1, 1, 0]
        assert warnings == ["1 question is withdrawn: of an evaluation, not answered within 2 s"]

    asyncio.run(run())
    with PreferenceReader(tmp_path / LOG_FILE) as log:
        assert (log.num_questions(), log.num_questions(None, "evaluation")) == (0, 4)
