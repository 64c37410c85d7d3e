"""The records of the preference log: runs, questions, answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from rllib_sea.duels.records import Candidate

Side = Literal["first", "second"]
Label = Literal["first", "second", "tie", "skip"]
SIDES: tuple[str, ...] = get_args(Side)
LABELS: tuple[str, ...] = get_args(Label)
# In the place of an exploration strategy, and of a rule by which labels are drawn, where a
# preference was there before any run asked for it.
IMPORTED = "imported"


class PreferenceLogError(RuntimeError):
    """The log cannot be read or written. One line that names the file; nothing was half-written."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The run that a log belongs to.

    Attributes:
        run_id: Its name, the same when it is resumed.
        seed: The run's seed; with round and position it determines every random draw.
        policy_model: Whose tokens the token ids are.
        chat: Whether prompts were wrapped in the model's chat template.
    """

    run_id: str
    seed: int
    policy_model: str
    chat: bool


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """A duel that is put to the oracle for a training label.

    Attributes:
        round: The round, from 0.
        position: The prompt's place in the round; with ``round`` the question's identity.
        prompt_id: The prompt's identity in its source.
        prompt_text: What the policy was asked.
        prompt_token_ids: The same as tokens.
        first: The first response.
        second: The second response.
        from_reference: Which of the two were sampled from the reference policy.
        member: The ensemble member drawn for the first response; None where none was.
        policy_version: The version of the weights that sampled the responses; -1: no run did.
        strategy: The exploration strategy.
        oracle: The identity of the oracle that is asked, :attr:`text_duel.Oracle.name`.
        labels: How a label is drawn, see :class:`text_duel.labels.LabelRule`.
        flip_noise: The probability that the label is turned round.
        shown_first: Which response stands first where a person sees the two.
    """

    round: int
    position: int
    prompt_id: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    first: Candidate
    second: Candidate
    from_reference: tuple[bool, bool]
    member: int | None
    policy_version: int
    strategy: str
    oracle: str
    labels: str
    flip_noise: float
    shown_first: Side = "first"


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What came back for a question.

    Attributes:
        round: The question's round.
        position: The question's position.
        label: Who won, or ``tie``, or ``skip`` (asked, but not decided).
        answered_by: The identity of who answered.
        win_probability: The oracle's probability, in [0, 1], that the first response is
            preferred, before the label was drawn; None where it gave none.
        scores: The oracle's scores of the first and the second response, or None.
        strength: By how much the winner is preferred, on the oracle's own scale, or None.

    Raises:
        ValueError: For another label, a probability outside [0, 1], or a number that is not finite.
    """

    round: int
    position: int
    label: Label
    answered_by: str
    win_probability: float | None = None
    scores: tuple[float, float] | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise ValueError(f"label: {self.label!r} is none of {', '.join(LABELS)}")
        if self.win_probability is not None and not 0.0 <= self.win_probability <= 1.0:
            raise ValueError(f"win_probability: {self.win_probability!r} is outside [0, 1]")
        for number in (*(self.scores or ()), self.strength):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"scores, strength: {number!r} is not a finite number")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A question as it stands in the log, with its answer where there is one.

    Attributes:
        question: The question.
        run_id: The run that asked it: this log's own, or one that it was started from.
        asked_at: When it was written, before the oracle was asked; in UTC.
        answer: The answer; None while the question is pending.
        answered_at: When the answer was written; in UTC.
    """

    question: QuestionRecord
    run_id: str
    asked_at: datetime
    answer: AnswerRecord | None
    answered_at: datetime | None
