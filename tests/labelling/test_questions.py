"""Duels to the log's questions and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from rllib_sea.duels.records import Duel
from rllib_sea.duels.selection import SelectedDuel
from rllib_sea.labelling.questions import (
    as_asked,
    labelled,
    preference_pair,
    question_of,
    rebuilt,
)
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import LogEntry, Question, RunRecord
from tests.helpers.round_cases import proposal, selected
from text_duel.conversations import turn
from text_duel.labels import LabelRule
from text_duel.verdicts import Label, Verdict

REWARDS = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
RULE = LabelRule("bradley_terry", 0.25)
TALK = (*turn("system", "s"), *turn("user", "u"))


def duel(
    position: int, texts: Sequence[str], first: int, second: int, *, synthetic: bool = False
) -> SelectedDuel:
    """A duel of member 1 among three candidates, the last from the reference policy."""
    case = proposal(texts, REWARDS, position=position, num_from_reference=1)
    return dataclasses.replace(selected(case, first, second, synthetic=synthetic), member=1)


def record(case: SelectedDuel, round_index: int = 0) -> Question:
    return question_of(
        case, round_index, messages=TALK, strategy="bai_ts", oracle="length-1", rule=RULE
    )


def score(questions: Sequence[Question]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features and rewards that tell prompts and responses apart."""
    return [
        (
            np.array([[q.position, len(q.first.text)], [q.position, len(q.second.text)]], "f4"),
            np.array([[len(q.first.text), len(q.second.text)], [q.position, 0]], "f4"),
        )
        for q in questions
    ]


def no_score(questions: Sequence[Question]) -> list[tuple[np.ndarray, np.ndarray]]:
    raise AssertionError("nothing was to be scored")


def same(one: Duel, two: Duel) -> bool:
    """Equality, NaN equal to itself."""
    a, b = dataclasses.asdict(one), dataclasses.asdict(two)
    for name in ("features", "member_rewards", "win_probability", "scores"):
        np.testing.assert_array_equal(a.pop(name), b.pop(name))
    return a == b


def give(log: PreferenceLog, entries: Sequence[LogEntry], verdicts: Mapping[int, Verdict]) -> None:
    """Gives verdicts by the positions of their questions."""
    ids = {entry.question.position: entry.id for entry in entries}
    log.give("length-1", {ids[position]: verdict for position, verdict in verdicts.items()})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PreferenceLog]:
    with PreferenceLog(tmp_path / "log.sqlite", RunRecord("run", 0, "tiny", False)) as opened:
        yield opened


def test_a_question_says_all_of_its_duel() -> None:
    case = duel(4, ("a.", "bb", "ccc"), 2, 0)
    question = record(case)
    assert question == Question(
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
        prompt_messages=TALK,
    )
    assert question.from_reference == case.labelled(0).from_reference
    assert record(dataclasses.replace(case, member=-1)).member is None


@pytest.mark.parametrize(
    ("verdict", "label"),
    [
        (Verdict("first", 1 / 3, (0.1, -2.5)), Label(1.0)),
        (Verdict("second", 0.5), Label(0.0)),
        (Verdict("tie", scores=(1.0, 2.0)), Label(0.5)),
    ],
)
def test_a_verdict_becomes_the_duels_label_to_the_bit(
    log: PreferenceLog, verdict: Verdict, label: Label
) -> None:
    case = duel(0, ("a", "bb", "ccc"), 0, 1)
    give(log, log.ask(0, [record(case)]), {0: verdict})
    (back,) = labelled(0, [case], log.close_round(0).lessons, [])
    assert same(back, case.labelled(0, label, verdict.win_probability, verdict.scores))


def test_a_skip_labels_no_duel_and_a_synthetic_one_has_its_members(log: PreferenceLog) -> None:
    real, ours = duel(0, ("a", "bb", "ccc"), 0, 1), duel(1, ("a", "b", "c"), 0, 1, synthetic=True)
    give(log, log.ask(0, [record(real)]), {0: Verdict("skip")})
    (only,) = labelled(0, [real, ours], log.close_round(0).lessons, [])
    assert same(only, ours.labelled(0))


def test_a_label_that_comes_late_is_of_the_round_that_asked(log: PreferenceLog) -> None:
    late, now = duel(0, ("a", "bb", "ccc"), 0, 1), duel(3, ("d", "ee", "fff"), 2, 1)
    first = log.ask(0, [record(late)])
    assert log.close_round(0).lessons == []
    second = log.ask(1, [record(now, 1)])
    give(log, first, {0: Verdict("second", 0.25, (1.0, 2.0))})
    give(log, second, {3: Verdict("first", 0.75)})
    questions = [entry.question for entry in first]
    duels = labelled(1, [now], log.close_round(1).lessons, rebuilt(questions, score))
    assert [(d.round, d.position, d.first_wins) for d in duels] == [(0, 0, False), (1, 3, True)]
    assert (duels[0].chosen.text, duels[0].rejected.text) == ("bb", "a")
    assert (duels[0].win_probability, duels[0].scores) == (0.25, (1.0, 2.0))
    assert duels[0].features.tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("preference", "chosen", "origin", "certainty"),
    [(1.0, "ccc", "chosen", 1.0), (0.25, "a.", "rejected", 0.75), (0.5, "ccc", "chosen", 0.5)],
)
def test_the_pair_of_a_question_is_that_of_its_duel(
    preference: float, chosen: str, origin: str, certainty: float
) -> None:
    case, label = duel(4, ("a.", "bb", "ccc"), 2, 0), Label(preference, 0.5)
    pair = preference_pair(record(case), label)
    assert pair == case.labelled(0, label).preference_pair()
    assert pair.chosen_token_ids == tuple(map(ord, chosen))
    assert (pair.from_reference, pair.preference, pair.weight) == (origin, certainty, 0.5)


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
        result = as_asked(entries, round_duels, no_score)
        assert all(a is b for a, b in zip(result, round_duels, strict=True))


def test_a_round_of_synthetic_duels_only(log: PreferenceLog) -> None:
    round_duels = [duel(1, ("a", "bb", "ccc"), 2, 0, synthetic=True)]
    assert as_asked(log.ask(0, []), round_duels, no_score) == round_duels


def test_other_responses_than_were_asked_about(log: PreferenceLog) -> None:
    """Position 0 is as it was; 1 has other responses, 2 none, 3 was not asked, 4 is synthetic."""
    kept = duel(0, ("a", "bb", "ccc"), 0, 1)
    before = [kept, duel(1, ("a", "bb", "ccc"), 2, 0), duel(2, ("d", "ee", "fff"), 1, 2)]
    log.ask(0, [record(case) for case in before])
    now = [
        duel(4, ("x", "yy", "zzz"), 0, 1, synthetic=True),
        duel(3, ("x", "yy", "zzz"), 0, 1),
        kept,
        duel(1, ("a", "bb", "dddd"), 2, 0),
    ]
    entries = log.ask(0, [record(case) for case in now if not case.synthetic])
    result = as_asked(entries, now, score)
    assert [case.proposal.position for case in result] == [0, 1, 2, 4]
    assert result[0] is kept
    assert result[3] is now[0]
    label = Label(1.0)
    for case, earlier in zip(result[:3], before, strict=True):
        again, original = case.labelled(0, label), earlier.labelled(0, label)
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
        assert same(again, original)
        assert record(case) == record(earlier)


def test_the_same_responses_to_another_prompt_are_not_what_was_asked(log: PreferenceLog) -> None:
    """A prompt is what it says: with rows in another order an id stands for another prompt."""
    before = duel(0, ("a", "bb", "ccc"), 0, 1)
    entries = log.ask(0, [record(before)])
    renamed, edited = (
        dataclasses.replace(before, proposal=dataclasses.replace(before.proposal, **change))
        for change in ({"prompt_id": "p7"}, {"prompt_text": "another prompt"})
    )
    assert as_asked(entries, [renamed], no_score) == [renamed]
    (result,) = as_asked(entries, [edited], score)
    assert result.proposal.prompt_text == before.proposal.prompt_text


def test_a_position_that_was_asked_is_synthetic_now(log: PreferenceLog) -> None:
    """What was asked counts, also if chance or gamma would have it otherwise now."""
    before = duel(0, ("a", "bb", "ccc"), 0, 1)
    entries = log.ask(0, [record(before)])
    now = [duel(0, ("a", "bb", "ccc"), 0, 1, synthetic=True)]
    (result,) = as_asked(entries, now, score)
    assert not result.synthetic
    assert record(result) == record(before)
