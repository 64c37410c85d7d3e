"""What goes over the desk: questions as raters see them, answers, progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from text_duel.verdicts import Choice, Side, Verdict

PageChoice = Literal["left", "right", "tie", "both_bad", "skip"]
Phase = Literal["asking", "learning", "done", "away", "closed"]
Status = Literal["kept", "already", "late", "withdrawn"]


class RefusedError(Exception):
    """What was sent is not taken, and why, in words for whoever sent it.

    Args:
        message: The words.
        status: The HTTP status that says it best.
    """

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater says about a question as it was shown.

    Attributes:
        question: Its id.
        choice: The side that is better, or none.
        correction: Whether it takes the place of an answer that the rater gave before.
        strength: How clearly, or None.
        reason: Why it is skipped, or None.
        seconds: How long it took, or None.
    """

    question: int
    choice: PageChoice
    correction: bool = False
    strength: float | None = None
    reason: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a prompt.

    Attributes:
        role: Whose: ``system``, ``user`` or ``assistant``.
        content: What was said.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question as a rater sees it.

    Attributes:
        id: Its number in the log.
        round: The round that asked it.
        prompt: Its prompt, a text as one turn of the user.
        left: The response on the left.
        right: The other one.
        answered: What the rater has said, if they have taken it back to say it again.
    """

    id: int
    round: int
    prompt: tuple[Turn, ...]
    left: str
    right: str
    answered: PageChoice | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an answer.

    Attributes:
        status: ``kept``; ``already``: it was sent before; ``late``: somebody else answered the
            question meanwhile; ``withdrawn``: the question was.
        message: The same in words; empty if there is nothing to say.
    """

    status: Status
    message: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a rater and the run stand.

    Attributes:
        log: Which log it is, so that no answer gets into another one at the same address.
        rater: Whose.
        phase: ``asking``; ``learning``: all questions are answered, others come by themselves;
            ``done``: they were the last; ``away``: no run asks, others come once one goes on;
            ``closed``: the page ends.
        round: The newest round that has asked; None before the first.
        round_questions: How many questions it asked.
        round_open: How many of them nobody has answered.
        answered: Questions that are answered, in all.
        open: Questions that nobody has answered, in all.
        budget: How many the run will ask for; None: nobody said.
        mine: Standing answers of the rater.
        mine_today: Those of today.
        learned_round: The newest round that has learned; None before the first.
        learned_mine: From how many answers of the rater it did.
        news: What the run says of itself since; empty if nothing.
    """

    log: str
    rater: str
    phase: Phase
    round: int | None
    round_questions: int
    round_open: int
    answered: int
    open: int
    budget: int | None
    mine: int
    mine_today: int
    learned_round: int | None
    learned_mine: int
    news: str


def page_choice(choice: Choice, left: Side) -> PageChoice:
    """A verdict's choice as it looks on the page.

    Args:
        choice: In the question's own order.
        left: Which response stands on the left.
    """
    if choice in ("first", "second"):
        return "left" if choice == left else "right"
    return choice  # type: ignore[return-value]


def own_choice(choice: PageChoice, left: Side) -> Choice:
    """A choice on the page in the question's own order.

    Args:
        choice: On the page.
        left: Which response stands on the left.
    """
    right: Side = "second" if left == "first" else "first"
    if choice == "left":
        return left
    return right if choice == "right" else choice


def says_the_same(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts say the same; how long they took says nothing."""
    return (one.choice, one.strength, one.reason) == (other.choice, other.strength, other.reason)
