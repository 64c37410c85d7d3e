"""Between a round and the preference log: duels to questions, answers to labels, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rllib_sea.duels.records import PreferencePair, which_from_reference
from rllib_sea.duels.rounds import Answer, Proposal
from rllib_sea.duels.selection import SelectedDuel
from rllib_sea.preference_log.records import AnswerRecord, LogEntry, QuestionRecord
from text_duel.labels import LabelRule

# Features (2, d) and rewards (K, 2) of the two responses of each of N questions.
Score = Callable[[Sequence[QuestionRecord]], Sequence[tuple[np.ndarray, np.ndarray]]]


def question_record(
    duel: SelectedDuel, round_index: int, *, strategy: str, oracle: str, rule: LabelRule
) -> QuestionRecord:
    """A selected duel as the question that is written to the log.

    Args:
        duel: A real duel (not synthetic).
        round_index: The round.
        strategy: The exploration strategy's name.
        oracle: The oracle's :attr:`text_duel.Oracle.name`.
        rule: How labels are drawn from its probabilities.
    """
    proposal = duel.proposal
    first, second = duel.responses
    return QuestionRecord(
        round=round_index,
        position=proposal.position,
        prompt_id=proposal.prompt_id,
        prompt_text=proposal.prompt_text,
        prompt_token_ids=proposal.prompt_token_ids,
        first=first,
        second=second,
        from_reference=duel.from_reference,
        member=None if duel.member < 0 else duel.member,
        policy_version=proposal.policy_version,
        strategy=strategy,
        oracle=oracle,
        labels=rule.labels,
        flip_noise=rule.flip_noise,
    )


def as_asked(
    entries: Sequence[LogEntry],
    selected: Sequence[SelectedDuel],
    prompt_indices: Mapping[str, int],
    score: Score,
) -> list[SelectedDuel]:
    """The round's duels as the log has them: what was asked is what counts.

    A run that is resumed selects a round again. On a CPU it selects the same duels, and they are
    returned as they are. Where an engine gave other responses this time, the real duels are
    those of the log, made from it alone but for features and rewards, which are computed again; a
    real duel that the log does not have is left out, since a round is asked once.

    Args:
        entries: The round's questions, from :meth:`PreferenceLog.ask`.
        selected: The duels that were selected now, real and synthetic.
        prompt_indices: The training prompts' indices by their ids.
        score: Computes features and ensemble rewards of questions' responses.

    Returns:
        ``selected`` itself where its real duels are those of the log; otherwise the log's and
        the synthetic ones of other positions, by position.

    Raises:
        KeyError: The log has a prompt that the run does not have.
    """
    real = {duel.proposal.position: duel for duel in selected if not duel.synthetic}
    lost = [
        entry.question
        for entry in entries
        if not _is_same(entry.question, real.get(entry.question.position))
    ]
    if not lost and len(real) == len(entries):
        return list(selected)
    asked = {entry.question.position for entry in entries}
    rebuilt = [
        _rebuilt(question, prompt_indices[question.prompt_id], *scored)
        for question, scored in zip(lost, score(lost) if lost else [], strict=True)
    ]
    gone = {question.position for question in lost}
    kept = [
        duel
        for duel in selected
        if (duel.synthetic and duel.proposal.position not in asked)
        or (not duel.synthetic and duel.proposal.position in asked - gone)
    ]
    return sorted([*kept, *rebuilt], key=lambda duel: duel.proposal.position)


def answer_record(question: QuestionRecord, answer: Answer, answered_by: str) -> AnswerRecord:
    """An oracle's answer as it is written to the log.

    Args:
        question: What was asked.
        answer: What the oracle said.
        answered_by: Its :attr:`text_duel.Oracle.name`.
    """
    return AnswerRecord(
        round=question.round,
        position=question.position,
        label="first" if answer.first_wins else "second",
        answered_by=answered_by,
        win_probability=None if math.isnan(answer.win_probability) else answer.win_probability,
        scores=None if any(map(math.isnan, answer.scores)) else answer.scores,
    )


def logged_answer(record: AnswerRecord) -> Answer | None:
    """An answer from the log as :meth:`SelectedDuel.labelled` takes it; None for tie and skip."""
    if record.label not in ("first", "second"):
        return None
    nan = math.nan
    return Answer(
        first_wins=record.label == "first",
        win_probability=nan if record.win_probability is None else record.win_probability,
        scores=record.scores or (nan, nan),
    )


def logged_pair(entry: LogEntry) -> PreferencePair:
    """What the policy learns from a question of the log that one side won.

    Raises:
        ValueError: It has no answer, or was a tie or skipped.
    """
    question, label = entry.question, entry.answer and entry.answer.label
    if label not in ("first", "second"):
        raise ValueError(f"round {question.round}, position {question.position}: label {label}")
    chosen, rejected, origin = question.first, question.second, question.from_reference
    if label == "second":
        chosen, rejected, origin = rejected, chosen, origin[::-1]
    return PreferencePair(
        question.prompt_id,
        question.prompt_token_ids,
        chosen.token_ids,
        rejected.token_ids,
        synthetic=False,
        from_reference=which_from_reference(origin),
    )


def _is_same(question: QuestionRecord, duel: SelectedDuel | None) -> bool:
    if duel is None:
        return False
    pairs = zip((question.first, question.second), duel.responses, strict=True)
    return question.prompt_id == duel.proposal.prompt_id and all(
        (asked.text, asked.token_ids) == (now.text, now.token_ids) for asked, now in pairs
    )


def _rebuilt(
    question: QuestionRecord, prompt_index: int, features: np.ndarray, rewards: np.ndarray
) -> SelectedDuel:
    """The duel of a question: its two responses are the proposal's only candidates."""
    # Candidates from the reference policy come last.
    order = [0, 1] if question.from_reference[0] <= question.from_reference[1] else [1, 0]
    responses = (question.first, question.second)
    return SelectedDuel(
        proposal=Proposal(
            position=question.position,
            prompt_index=prompt_index,
            prompt_id=question.prompt_id,
            prompt_text=question.prompt_text,
            prompt_token_ids=question.prompt_token_ids,
            candidates=(responses[order[0]], responses[order[1]]),
            num_from_reference=sum(question.from_reference),
            features=features[order],
            rewards=rewards[:, order],
            policy_version=question.policy_version,
        ),
        first=order[0],
        second=order[1],
        member=-1 if question.member is None else question.member,
        clash=False,
        synthetic=False,
        member_label=False,
    )
