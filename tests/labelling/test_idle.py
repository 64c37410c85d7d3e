"""For how long people have nothing to answer, by hand."""

from __future__ import annotations

from rllib_sea.labelling.web.idle import IdleTime


def test_people_are_idle_from_the_last_answer_to_the_next_question() -> None:
    now = 10.0
    idle = IdleTime(lambda: now)
    now = 15.0
    assert idle.take() == 0.0, "nobody was asked yet"
    idle.note(2)
    now = 18.0
    idle.note(1)
    idle.note(0)
    now = 21.0
    assert idle.take() == 3.0
    now = 23.0
    idle.note(8)  # the next round asks
    now = 30.0
    idle.note(7)
    assert idle.take() == 2.0
    assert idle.take() == 0.0
