"""Duels to the log's questions and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import Answer
from rllib_sea.duels.selection import SelectedDuel
from rllib_sea.labelling.questions import answer_record, as_asked, logged_answer, question_record
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import AnswerRecord, QuestionRecord, RunRecord
from tests.helpers.round_cases import proposal, selected
from text_duel.labels import LabelRule

REWARDS = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
RULE = LabelRule("bradley_terry", 0.25)
INDICES = {f"p{i}": 100 + i for i in range(9)}
NAN = math.nan


def duel(
    position: int, texts: Sequence[str], first: int, second: int, *, synthetic: bool = False
) -> SelectedDuel:
    """A duel of member 1 among three candidates, the last from the reference policy."""
    case = proposal(texts, REWARDS, position=position, num_from_reference=1)
    return dataclasses.replace(selected(case, first, second, synthetic=synthetic), member=1)


def record(case: SelectedDuel) -> QuestionRecord:
    return question_record(case, 0, strategy="bai_ts", oracle="length-1", rule=RULE)


def score(questions: Sequence[QuestionRecord]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features and rewards that tell prompts and responses apart."""
    return [
        (
            np.array([[q.position, len(q.first.text)], [q.position, len(q.second.text)]], "f4"),
            np.array([[len(q.first.text), len(q.second.text)], [q.position, 0]], "f4"),
        )
        for q in questions
    ]


def no_score(questions: Sequence[QuestionRecord]) -> list[tuple[np.ndarray, np.ndarray]]:
    raise AssertionError("nothing was to be scored")


def same(one: Duel, two: Duel) -> bool:
    """Equality, NaN equal to itself."""
    a, b = dataclasses.asdict(one), dataclasses.asdict(two)
    for name in ("features", "member_rewards", "win_probability", "scores"):
        np.testing.assert_array_equal(a.pop(name), b.pop(name))
    return a == b


@pytest.fixture
def log(tmp_path: Path) -> PreferenceLog:
    opened = PreferenceLog(tmp_path / "log.sqlite", RunRecord("run", 0, "tiny", False))
    yield opened  # type: ignore[misc]
    opened.close()


def test_a_question_says_all_of_its_duel() -> None:
    case = duel(4, ("a.", "bb", "ccc"), 2, 0)
    question = record(case)
    assert question == QuestionRecord(
        round=0,
        position=4,
        prompt_id="p4",
        prompt_text="prompt 4",
        prompt_token_ids=(1, 4),
        first=case.proposal.candidates[2],
        second=case.proposal.candidates[0],
        from_reference=(True, False),
        member=1,
        policy_version=7,
        strategy="bai_ts",
        oracle="length-1",
        labels="bradley_terry",
        flip_noise=0.25,
    )
    assert question.from_reference == case.labelled(0, None).from_reference
    assert record(dataclasses.replace(case, member=-1)).member is None


@pytest.mark.parametrize(
    "answer",
    [Answer(True, 1 / 3, (0.1, -2.5)), Answer(False, 0.5, (NAN, NAN)), Answer(True, NAN, (1.0, 2))],
)
def test_an_oracles_answer_comes_back_to_the_bit(log: PreferenceLog, answer: Answer) -> None:
    case = duel(0, ("a", "bb", "ccc"), 0, 1)
    log.ask(0, [record(case)])
    log.answer([answer_record(record(case), answer, "length-1")])
    (entry,) = log.round(0)
    assert entry.answer is not None
    assert entry.answer.answered_by == "length-1"
    back = logged_answer(entry.answer)
    assert back is not None
    assert same(case.labelled(0, back), case.labelled(0, answer))


def test_a_tie_and_a_skip_label_no_duel() -> None:
    for label in ("tie", "skip"):
        assert logged_answer(AnswerRecord(0, 0, label, "ann")) is None


def test_duels_that_were_selected_again_stay_as_they_are(log: PreferenceLog) -> None:
    """The order of the round is kept, features are the round's own, nothing is scored again."""
    round_duels = [
        duel(3, ("a", "bb", "ccc"), 0, 1),
        duel(1, ("a", "bb", "ccc"), 2, 0, synthetic=True),
        duel(2, ("d", "ee", "fff"), 2, 1),
    ]
    real = [case for case in round_duels if not case.synthetic]
    for _ in range(2):  # asked, then resumed
        entries = log.ask(0, [record(case) for case in real])
        result = as_asked(entries, round_duels, INDICES, no_score)
        assert all(a is b for a, b in zip(result, round_duels, strict=True))


def test_a_round_of_synthetic_duels_only(log: PreferenceLog) -> None:
    round_duels = [duel(1, ("a", "bb", "ccc"), 2, 0, synthetic=True)]
    assert as_asked(log.ask(0, []), round_duels, INDICES, no_score) == round_duels


def test_other_responses_than_were_asked_about(log: PreferenceLog) -> None:
    """Position 0 is as it was; 1 has other responses, 2 none, 3 was not asked, 4 is synthetic."""
    kept = duel(0, ("a", "bb", "ccc"), 0, 1)
    before = [kept, duel(1, ("a", "bb", "ccc"), 2, 0), duel(2, ("d", "ee", "fff"), 1, 2)]
    asked = log.ask(0, [record(case) for case in before])
    log.answer([answer_record(entry.question, Answer(True, 0.75, (2, 1)), "o") for entry in asked])
    now = [
        duel(4, ("x", "yy", "zzz"), 0, 1, synthetic=True),
        duel(3, ("x", "yy", "zzz"), 0, 1),
        kept,
        duel(1, ("a", "bb", "dddd"), 2, 0),
    ]
    entries = log.ask(0, [record(case) for case in now if not case.synthetic])
    result = as_asked(entries, now, INDICES, score)
    assert [case.proposal.position for case in result] == [0, 1, 2, 4]
    assert result[0] is kept
    assert result[3] is now[0]
    answers = [Answer(True, 0.75, (2.0, 1.0))] * 3
    for case, earlier, answer in zip(result[:3], before, answers, strict=True):
        rebuilt, original = case.labelled(0, answer), earlier.labelled(0, answer)
        position = case.proposal.position
        if case is not kept:
            # From the log alone, but for what was scored again.
            lengths = [len(original.first.text), len(original.second.text)]
            original = dataclasses.replace(
                original,
                features=np.array([[position, length] for length in lengths], "f4"),
                member_rewards=np.array([[length, 0] for length in lengths], "f4"),
            )
            original.member_rewards[0, 1] = position
        assert same(rebuilt, original)
        assert case.proposal.prompt_index == 100 + position
        assert record(case) == record(earlier)


def test_a_position_that_was_asked_is_synthetic_now(log: PreferenceLog) -> None:
    """What was asked counts, also where chance or gamma would have it otherwise now."""
    before = duel(0, ("a", "bb", "ccc"), 0, 1)
    entries = log.ask(0, [record(before)])
    now = [duel(0, ("a", "bb", "ccc"), 0, 1, synthetic=True)]
    (result,) = as_asked(entries, now, INDICES, score)
    assert not result.synthetic
    assert record(result) == record(before)
