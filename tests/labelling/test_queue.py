"""Who gets which question next: by hand, with a clock of numbers."""

from __future__ import annotations

from rllib_sea.labelling.web.queue import QuestionQueue, QueuedQuestion


def queue(*wanted: int) -> QuestionQueue:
    made = QuestionQueue(lease_s=100.0)
    for key, number in enumerate(wanted, start=1):
        made.add(QueuedQuestion(key, (0, key), number))
    return made


def test_questions_come_in_order_and_are_one_raters() -> None:
    made = queue(1, 1, 1, 1, 1)
    assert made.hand_out("ann", 2, now=0.0) == ([1, 2], [1, 2])
    assert made.hand_out("ann", 2, now=1.0) == ([1, 2], []), "what she has stays hers"
    assert made.hand_out("bob", 2, now=1.0) == ([3, 4], [3, 4])
    made.answered(1, "ann")
    assert made.hand_out("ann", 2, now=2.0) == ([2, 5], [5])
    assert (1 in made, made.num_open, made.is_open(2)) == (False, 4, True)


def test_few_questions_are_shared_out() -> None:
    """Four are left: the first who asks for four leaves two to the one who labels beside her."""
    made = queue(1, 1, 1, 1, 1, 1)
    assert made.hand_out("bob", 1, now=0.0)[0] == [1]
    made.answered(1, "bob")
    made.answered(2, "somebody")
    assert made.hand_out("ann", 4, now=1.0)[0] == [3, 4]
    assert made.hand_out("bob", 4, now=1.0)[0] == [5]
    assert made.hand_out("ann", 4, now=62.0)[0] == [3, 4, 6], "bob has gone home"


def test_who_leaves_holds_nothing_up() -> None:
    made = queue(1, 1)
    assert made.hand_out("ann", 1, now=0.0)[0] == [1]
    assert made.hand_out("bob", 2, now=99.0)[0] == [2]
    assert made.hand_out("bob", 2, now=100.0)[0] == [1, 2]
    assert made.hand_out("ann", 1, now=101.0) == ([], []), "it is his now"
    made.answered(1, "ann")  # who answers all the same
    assert made.hand_out("bob", 2, now=102.0)[0] == [2]


def test_a_lease_is_renewed_after_half_of_its_time() -> None:
    made = queue(1)
    assert made.hand_out("ann", 1, now=0.0)[1] == [1]
    assert made.hand_out("ann", 1, now=50.0) == ([1], [])
    assert made.hand_out("ann", 1, now=51.0) == ([1], [1])
    assert made.hand_out("bob", 1, now=150.0) == ([], [])
    assert made.hand_out("bob", 1, now=151.0) == ([1], [1])


def test_a_second_rater_comes_after_the_first_and_after_what_is_open() -> None:
    made = queue(2, 1)
    assert made.hand_out("ann", 1, now=0.0)[0] == [1]
    assert made.hand_out("bob", 2, now=0.0)[0] == [2]
    made.answered(1, "ann")
    assert not made.is_open(1)
    assert made.hand_out("ann", 2, now=1.0)[0] == [], "she has judged it"
    assert made.hand_out("bob", 2, now=1.0)[0] == [1, 2]
    made.answered(1, "bob")
    assert 1 not in made


def test_withdrawn_questions_are_nobodys() -> None:
    made = queue(1, 1)
    made.hand_out("ann", 2, now=0.0)
    made.withdraw([1, 7])
    assert made.hand_out("ann", 2, now=1.0)[0] == [2]
    made.answered(1, "ann")
    assert made.num_open == 1
