"""The records of the preference log: runs, questions, and how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from rllib_sea.duels.records import Candidate
from text_duel.conversations import Content, Messages, as_text
from text_duel.verdicts import Label, Verdict

State = Literal["open", "leased", "answered", "withdrawn"]
# Why a question is asked: for a label to learn from, the only kind that a budget counts; with a
# known answer, to see how reliable a rater is; of a rater who has judged it before, to see whether
# they would say it again; to compare two policies.
Purpose = Literal["label", "gold", "repeat", "evaluation"]
# In the place of an exploration strategy, and of a rule by which labels are drawn, if a preference
# was there before any run asked for it.
IMPORTED = "imported"
# In the place of an exploration strategy, if the pair is one that the ERM would have labelled.
AUDIT = "audit"
# In the place of a version of the policy: no run sampled the responses.
NO_POLICY_VERSION = -1


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
class Question:
    """A duel that is put to the oracle, most often for a training label.

    Attributes:
        round: The round, from 0.
        position: The prompt's place in the round; with ``round`` and ``purpose`` the question's
            identity.
        prompt_id: The prompt's identity in its source.
        prompt_text: What the policy was asked, see :attr:`text_duel.Prompt.text`.
        prompt_token_ids: The same as tokens.
        first: The first response.
        second: The second response.
        from_reference: Which of the two were sampled from the reference policy.
        member: The ensemble member drawn for the first response; None if none was.
        policy_version: The version of the weights that sampled the responses; -1: no run did.
        strategy: The exploration strategy.
        oracle: The identity of the oracle that is asked, :attr:`text_duel.Oracle.name`.
        labels: How a choice is drawn from a probability, see :class:`text_duel.labels.LabelRule`.
        flip_noise: The probability that the choice is turned round.
        prompt_messages: The prompt if it is a conversation; None if it is a text.
        purpose: Why it is asked. Of a ``gold`` question the first response is the better one.
        repeats: Of a ``repeat``, the id of the question that it repeats.
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
    prompt_messages: Messages | None = None
    purpose: Purpose = "label"
    repeats: int | None = None

    @classmethod
    def imported(
        cls,
        prompt: Content,
        first: Candidate,
        second: Candidate,
        *,
        oracle: str,
        prompt_id: str,
        position: int,
        round: int = 0,
        prompt_token_ids: tuple[int, ...] = (),
        purpose: Purpose = "label",
    ) -> Self:
        """A question about responses that no run has sampled."""
        return cls(
            round=round,
            position=position,
            prompt_id=prompt_id,
            prompt_text=as_text(prompt),
            prompt_token_ids=prompt_token_ids,
            first=first,
            second=second,
            from_reference=(False, False),
            member=None,
            policy_version=NO_POLICY_VERSION,
            strategy=IMPORTED,
            oracle=oracle,
            labels=IMPORTED,
            flip_noise=0.0,
            prompt_messages=None if isinstance(prompt, str) else prompt,
            purpose=purpose,
        )

    @property
    def prompt(self) -> Content:
        """What the policy was asked: the conversation if it was one, else the text."""
        return self.prompt_messages or self.prompt_text

    @property
    def place(self) -> tuple[int, int]:
        """Round and position."""
        return self.round, self.position

    @property
    def prompt_key(self) -> tuple[str, str]:
        """The prompt's id and text: the text says which it is, the id tells equal texts apart."""
        return self.prompt_id, self.prompt_text


@dataclass(frozen=True, slots=True)
class GivenVerdict:
    """A verdict in the log.

    Attributes:
        verdict: What was said.
        rater: The identity of who said it.
        given_at: When it was written, in UTC.
    """

    verdict: Verdict
    rater: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A question as it stands in the log.

    Attributes:
        id: The question's number in this log.
        question: The question.
        run_id: The run that asked it: this log's own, or one that it was started from.
        asked_at: When it was written, before the oracle was asked; in UTC.
        state: ``open``; ``leased``: somebody has it before them; ``answered``; ``withdrawn``.
        verdicts: The standing verdict of each rater, the oldest first; corrected ones are left
            out.
        label: What is learned from it; None without verdicts, and if they say nothing to learn.
        label_rule: The rule of :data:`text_duel.verdict_rules.LABEL_RULES` by which the label was
            derived; None while the question is not answered.
        answered_at: When the label was derived; in UTC.
        learned_in: The round that learned from the label; None if none did.
    """

    id: int
    question: Question
    run_id: str
    asked_at: datetime
    state: State
    verdicts: tuple[GivenVerdict, ...]
    label: Label | None
    label_rule: str | None
    answered_at: datetime | None
    learned_in: int | None

    @classmethod
    def just_asked(cls, key: int, question: Question, run_id: str, asked_at: datetime) -> Self:
        """A question that nobody has seen yet."""
        return cls(key, question, run_id, asked_at, "open", (), None, None, None, None)

    @property
    def deciding(self) -> GivenVerdict | None:
        """The verdict that says most about the label: the first one; None without any."""
        return self.verdicts[0] if self.verdicts else None

    @property
    def is_decided(self) -> bool:
        """Whether one of the two responses is preferred."""
        return self.label is not None and not self.label.is_tie


@dataclass(frozen=True, slots=True)
class Lesson:
    """A label that a round learns from.

    Attributes:
        id: The question's number in the log.
        round: The round that asked it: the one that learns from it, or an earlier one if the
            answer came late.
        position: The prompt's place in that round.
        label: The label.
        win_probability: Of the verdict that came first: the probability that the first response is
            preferred; None if it gave none.
        scores: Likewise, the scores of the first and the second response.
    """

    id: int
    round: int
    position: int
    label: Label
    win_probability: float | None
    scores: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ClosedRound:
    """What a round learns from, settled.

    Attributes:
        lessons: The labels, by round and position of their questions.
        num_answered: How many questions were answered at that moment, in the whole run.
        num_open: How many were open.
    """

    lessons: list[Lesson]
    num_answered: int
    num_open: int
