"""Between the log and the page: what is handed out, kept, refused and waited for; without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest

from rllib_sea.labelling.web.checks import Checks
from rllib_sea.labelling.web.desk import Desk
from rllib_sea.labelling.web.desk_records import Answer, RefusedError, ShownQuestion, page_choice
from rllib_sea.labelling.web.judging import Judging
from rllib_sea.preference_log.agreement import agreement
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog
from rllib_sea.statistics import Estimate
from tests.helpers.preference_log_cases import RUN, question
from text_duel.oracles.gold import GoldQuestion
from text_duel.verdicts import Choice, Label, Side, Verdict


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PreferenceLog]:
    with PreferenceLog(tmp_path / LOG_FILE, RUN) as opened:
        opened.ask(0, [question(0, i) for i in range(6)])
        yield opened


def desk(log: PreferenceLog, judging: Judging | None = None, **options: object) -> Desk:
    return Desk(log, judging=judging, **({"lease_s": 100.0} | options))  # type: ignore[arg-type]


GOLD = [GoldQuestion(f"gold {i}", f"good {i}", f"bad {i}") for i in range(10)]


def answer(
    log: PreferenceLog, shown: ShownQuestion, choice: Choice, correction: bool = False
) -> Answer:
    """An answer that prefers a response by its place in the question, whatever its side."""
    (entry,) = log.entries([shown.id])
    left: Side = "first" if entry.question.first.text == shown.left else "second"
    return Answer(shown.id, page_choice(choice, left), correction=correction)


def test_the_verdict_is_in_the_questions_own_order(log: PreferenceLog) -> None:
    """Sides are drawn for each rater and question, the same ones again after a restart."""
    log.ask(1, [question(1, i) for i in range(60)])
    first, left = desk(log), {}
    for rater in ("ann", "bob"):
        for _ in range(33):
            (shown,) = first.hand_out(rater, 1)
            left[rater, shown.id] = shown.left
            first.answer(rater, Answer(shown.id, "left", seconds=2.5))
    assert len(left) == 66
    on_left = set()
    for entry in log.read():
        (given,) = entry.verdicts
        chosen = getattr(entry.question, given.verdict.choice).text
        assert chosen == left[given.rater, entry.id]
        assert given.verdict.shown_first == given.verdict.choice
        assert given.verdict.seconds == 2.5
        assert entry.label is not None
        assert entry.label.preference == (given.verdict.choice == "first")
        on_left.add((given.rater, given.verdict.choice))
    assert len(on_left) == 4, "each of them sees both kinds on the left"
    again = desk(log, Judging(log, overlap=1.0))
    sides = {shown.id: shown.left for shown in again.hand_out("bob", 66)}
    same = [left["ann", key] == text for key, text in sides.items()]
    assert len(same) == 33, "what ann has answered, for a second rater"
    assert 5 < sum(same) < 28, "not the same sides for both"


def test_what_was_handed_out_stays_after_a_restart(log: PreferenceLog) -> None:
    before = [shown.id for shown in desk(log).hand_out("ann", 4)]
    again = desk(log)
    assert [shown.id for shown in again.hand_out("bob", 4)] == [5, 6], "what is hers is not his"
    assert [shown.id for shown in again.hand_out("ann", 4)] == before


def test_an_answer_counts_once_and_changes_by_a_correction(log: PreferenceLog) -> None:
    made = desk(log)
    shown = made.hand_out("ann", 1)[0]
    assert made.answer("ann", Answer(shown.id, "tie", seconds=1.0)).status == "kept"
    assert made.answer("ann", Answer(shown.id, "tie", seconds=9.0)).status == "already"
    with pytest.raises(RefusedError, match=r"answered question 1 before \(tie\)"):
        made.answer("ann", Answer(shown.id, "left"))
    again = made.reopen("ann")
    assert (again.id, again.answered) == (shown.id, "tie")
    assert made.answer("ann", Answer(shown.id, "left", correction=True)).status == "kept"
    assert made.answer("ann", Answer(shown.id, "left", correction=True)).status == "already"
    (entry,) = log.entries([shown.id])
    (given,) = entry.verdicts
    assert getattr(entry.question, given.verdict.choice).text == shown.left
    assert next(log.query("SELECT count(*) FROM verdicts")) == (2,)
    progress = made.progress("ann")
    assert (progress.mine, progress.mine_today, progress.answered) == (1, 1, 1)


def test_undo_goes_back_from_answer_to_answer(log: PreferenceLog) -> None:
    made = desk(log)
    ids = [shown.id for shown in made.hand_out("ann", 3)]
    for key in ids:
        made.answer("ann", Answer(key, "tie"))
    assert [made.reopen("ann").id for _ in ids] == ids[::-1]
    with pytest.raises(RefusedError, match="no answer of yours to take back"):
        made.reopen("ann")
    with pytest.raises(RefusedError, match="no answer of yours"):
        made.reopen("bob", ids[0])


def test_what_was_learned_from_stays(log: PreferenceLog) -> None:
    made = desk(log)
    (shown,) = made.hand_out("ann", 1)
    made.answer("ann", Answer(shown.id, "left"))
    closed = log.close_round(0)
    made.learned(0, closed.lessons)
    for attempt in (
        lambda: made.reopen("ann"),
        lambda: made.answer("ann", Answer(shown.id, "right", correction=True)),
    ):
        with pytest.raises(RefusedError, match="round 1 has learned from your answer"):
            attempt()
    progress = made.progress("ann")
    assert (progress.learned_round, progress.learned_mine) == (0, 1)
    assert made.progress("bob").learned_mine == 0
    assert desk(log).progress("ann").learned_mine == 1, "also after a restart"


def test_whom_a_question_is_not_put_before_cannot_answer_it(log: PreferenceLog) -> None:
    made = desk(log)
    with pytest.raises(RefusedError, match="question 1 was never put before ann"):
        made.answer("ann", Answer(1, "left"))
    with pytest.raises(RefusedError, match="there is no question 99") as refused:
        made.answer("ann", Answer(99, "left"))
    assert refused.value.status == 404
    assert next(log.query("SELECT count(*) FROM verdicts")) == (0,)


def test_late_and_withdrawn_answers_are_kept(log: PreferenceLog) -> None:
    clock = Clock()
    made = desk(log, clock=clock)
    made.hand_out("ann", 1)
    clock.now += 101
    assert made.hand_out("bob", 1)[0].id == 1
    assert made.answer("bob", Answer(1, "tie")).status == "kept"
    late = made.answer("ann", Answer(1, "left"))
    assert (late.status, late.message) == (
        "late",
        "bob answered it meanwhile: yours is kept beside it",
    )
    made.hand_out("ann", 1)
    log.withdraw([2], "too old")
    made.withdrawn([2])
    assert made.answer("ann", Answer(2, "left")).status == "withdrawn"
    one, two = log.entries([1, 2])
    assert [given.rater for given in one.verdicts] == ["bob", "ann"]
    assert one.label is not None
    assert one.label.is_tie, "the first answer is the label"
    assert (two.state, two.label, len(two.verdicts)) == ("withdrawn", None, 1)
    assert made.progress("ann").answered == log.num_answered() == 1
    assert made.progress("ann").round_open == log.num_open() == 4


def test_overlap_is_a_share_that_a_second_rater_judges(log: PreferenceLog) -> None:
    log.ask(1, [question(1, i) for i in range(94)])
    made = desk(log, Judging(log, overlap=0.2))
    for rater in ("ann", "bob"):
        while shown := made.hand_out(rater, 20):
            for one in shown:
                made.answer(rater, Answer(one.id, "left"))
    raters = [len(entry.verdicts) for entry in log.read()]
    assert set(raters) == {1, 2}
    assert 10 < raters.count(2) < 32
    assert log.num_answered() == 100


def test_a_majority_decides_once_all_have_judged(log: PreferenceLog) -> None:
    async def run() -> None:
        made = desk(log, Judging(log, labels_by="majority", raters_per_question=3))
        waiting = asyncio.create_task(made.settled([1]))
        for rater, choice in (("ann", "first"), ("bob", "second")):
            shown = made.hand_out(rater, 1)[0]
            assert shown.id == 1, "it keeps its place until all have judged it"
            assert made.answer(rater, answer(log, shown, choice)).status == "kept"
            await asyncio.sleep(0)
            assert not waiting.done()
            assert (log.num_answered(), made.progress("ann").answered) == (0, 0)
        made.answer("ann", answer(log, made.reopen("ann"), "tie", correction=True))
        assert log.entries([1])[0].label is None
        (shown,) = made.hand_out("carol", 1)
        made.answer("carol", answer(log, shown, "first"))
        (entry,) = log.entries([1])
        assert (entry.label, entry.label_rule) == (Label(0.5), "majority")
        made.answer("ann", answer(log, made.reopen("ann"), "first", correction=True))
        assert log.entries([1])[0].label == Label(2 / 3)
        await asyncio.wait_for(waiting, 5.0)
        assert (log.num_answered(), made.progress("ann").answered) == (1, 1)
        assert made.hand_out("dave", 1)[0].id == 2

    asyncio.run(run())


def test_what_was_judged_before_is_decided_by_the_rule_of_now(log: PreferenceLog) -> None:
    """A run that is resumed with fewer raters per question waits for nobody who is not asked."""
    before = desk(log, Judging(log, labels_by="majority", raters_per_question=2))
    for rater, choice in (("ann", "left"), ("bob", "skip")):
        (shown,) = before.hand_out(rater, 1)
        before.answer(rater, Answer(shown.id, choice))  # type: ignore[arg-type]
    (shown,) = before.hand_out("ann", 1)
    before.answer("ann", Answer(shown.id, "tie"))
    assert [entry.state for entry in log.entries([1, 2])] == ["answered", "open"]
    made = desk(log)
    assert log.entries([2])[0].label == Label(0.5)
    assert made.progress("ann").answered == log.num_answered() == 2
    assert made.hand_out("bob", 1)[0].id == 3


def test_a_label_weighs_what_is_known_of_its_rater_when_a_round_learns(log: PreferenceLog) -> None:
    """By hand: eve is wrong on 5 of 5 gold questions, (8 + 0) / (10 + 5); ann right on 2 of 2."""
    gold = [question(0, i, purpose="gold") for i in range(5)]
    ids = [entry.id for entry in log.ask(0, gold, "gold")]
    made = desk(log, Judging(log, labels_by="reliability"))
    for rater in ("ann", "eve"):
        made.answer(rater, answer(log, made.hand_out(rater, 1)[0], "first"))
    labels = [entry.label for entry in log.entries([1, 2])]
    assert [label.weight for label in labels if label] == pytest.approx([0.6, 0.6])
    log.give("eve", dict.fromkeys(ids, Verdict("second")))
    log.give("ann", dict.fromkeys(ids[:2], Verdict("first")))
    lessons = log.close_round(0).lessons
    weights = [2 * 10 / 12 - 1, 2 * 8 / 15 - 1]
    assert [lesson.label.weight for lesson in lessons] == pytest.approx([abs(w) for w in weights])
    # What a round has learned from stays, whatever is found out since.
    log.give("ann", dict.fromkeys(ids[2:], Verdict("second")))
    log.close_round(1)
    assert log.lessons(0) == lessons


def test_gold_questions_and_repeats_are_no_queries(log: PreferenceLog) -> None:
    log.ask(1, [question(1, i) for i in range(94)])

    def checks() -> Checks:
        return Checks(log, GOLD, gold_share=0.2, repeat_share=0.2)

    made, sides, order = desk(log, checks=checks()), {}, []
    while shown := made.hand_out("ann", 3):
        if len(order) in (20, 60):  # the process dies: the same questions are there again
            again = desk(log, checks=checks())
            assert {one.id for one in again.hand_out("ann", 3)} == {one.id for one in shown}
            made = again
        assert len(shown) <= 3
        sides[shown[0].id] = shown[0]
        made.answer("ann", Answer(shown[0].id, "left", seconds=1.0))
        order.append(shown[0].id)
    assert (log.num_answered(), log.num_open(), len(log.close_round(1).lessons)) == (100, 0, 100)
    assert made.progress("ann").answered == 100
    assert made.progress("ann").mine == len(order)
    gold, repeats = list(log.read("gold")), list(log.read("repeat"))
    assert [len(entry.verdicts) for entry in gold] == [1] * 10, "each once"
    assert [entry.question.prompt for entry in gold] == [one.prompt for one in GOLD]
    assert 8 < len(repeats) < 30
    assert len({entry.question.repeats for entry in repeats}) == len(repeats)
    for entry in repeats:
        assert (entry.label, entry.label_rule, entry.learned_in) == (None, None, None)
        before = entry.question.repeats
        assert before is not None
        assert order.index(entry.id) - order.index(before) > 10
        (one, other) = sides[before], sides[entry.id]
        assert (one.left, one.right, one.prompt) == (other.right, other.left, other.prompt)
    found = agreement(log.read(None)).raters["ann"]
    assert found.consistency == (Estimate(0.0, ANY, ANY), len(repeats)), "she clicks left"
    assert found.gold is not None
    assert found.gold[1] == 10
    assert found.choices.total() == 100
    with pytest.raises(RefusedError, match="was never put before bob"):
        made.answer("bob", Answer(repeats[0].id, "left"))
    made.answer("ann", answer(log, made.reopen("ann", repeats[0].id), "tie", True))
    assert log.num_answered() == 100
    # Another file: what is new in it is asked, too.
    more = Checks(log, [*GOLD[:1], GoldQuestion("new", "a", "b")], gold_share=0.5)
    log.ask(2, [question(2, i) for i in range(20)])
    new = desk(log, checks=more)
    while shown := new.hand_out("ann", 1):
        new.answer("ann", Answer(shown[0].id, "left"))
    assert [len(entry.verdicts) for entry in log.read("gold")] == [1] * 11


def test_a_round_waits_for_people_and_for_who_takes_an_answer_back(log: PreferenceLog) -> None:
    async def run() -> None:
        made = desk(log, undo_s=0.3)
        ids = [shown.id for shown in made.hand_out("ann", 6)]
        waiting = asyncio.create_task(made.settled(ids))
        for key in ids:
            await asyncio.sleep(0)
            assert not waiting.done()
            made.answer("ann", Answer(key, "left"))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "the last answer may be undone"
        made.reopen("ann")
        await asyncio.sleep(0.4)
        assert not waiting.done(), "she thinks again"
        made.answer("ann", Answer(ids[-1], "right", correction=True))
        await asyncio.wait_for(waiting, 5.0)
        await asyncio.wait_for(made.settled(ids), 0.05)

    asyncio.run(run())


def test_a_round_does_not_wait_for_what_is_withdrawn(log: PreferenceLog) -> None:
    async def run() -> None:
        made = desk(log)
        waiting = asyncio.create_task(made.settled([1, 2]))
        made.hand_out("ann", 1)
        made.answer("ann", Answer(1, "skip", reason="cannot judge"))
        await asyncio.sleep(0)
        assert not waiting.done()
        made.withdrawn([2])
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(run())


def test_phases(log: PreferenceLog) -> None:
    made, alone = desk(log, budget=7), desk(log, has_run=False)
    assert made.progress("ann").phase == "asking"
    for shown in made.hand_out("ann", 6):
        made.answer("ann", Answer(shown.id, "left"))
        alone.withdrawn([shown.id])
    assert (made.progress("ann").phase, alone.progress("ann").phase) == ("learning", "away")
    log.ask(1, [question(1, 0)])
    made.refresh()
    progress = made.progress("ann")
    assert (progress.phase, progress.round, progress.round_open) == ("asking", 1, 1)
    made.answer("ann", Answer(made.hand_out("ann", 1)[0].id, "left"))
    assert made.progress("ann").phase == "done"
    made.close()
    alone.close()
    assert (made.progress("ann").phase, alone.progress("ann").phase) == ("done", "closed")


def test_an_evaluations_questions_are_no_part_of_the_budget(log: PreferenceLog) -> None:
    """Until they are asked the page waits; after them it is done."""
    page = desk(log, budget=6, evaluates=True)

    def answer_all() -> None:
        for shown in page.hand_out("ann", 9):
            page.answer("ann", Answer(shown.id, "left"))

    answer_all()
    progress = page.progress("ann")
    assert (progress.phase, progress.answered, progress.open) == ("learning", 6, 0)
    log.ask(1, [question(1, i, purpose="evaluation") for i in range(2)], "evaluation")
    page.refresh()
    for again in (page, desk(log, budget=6, evaluates=True)):
        progress = again.progress("ann")
        assert (progress.phase, progress.answered, progress.open) == ("asking", 6, 2)
        assert (progress.round, progress.mine) == (0, 6)
    answer_all()
    progress = page.progress("ann")
    assert (progress.phase, progress.answered, progress.open) == ("done", 6, 0)
    assert progress.mine == 8
    assert log.num_answered() == 6
    assert [entry.learned_in for entry in log.round(1, "evaluation")] == [None, None]
    assert log.close_round(1).num_answered == 6
