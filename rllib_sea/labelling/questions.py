"""Between a round and the preference log: duels to questions, labels to duels, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from rllib_sea.duels.records import Duel, PreferencePair, which_from_reference
from rllib_sea.duels.rounds import EvaluatedPrompt, Proposal
from rllib_sea.duels.selection import SelectedDuel
from rllib_sea.preference_log.records import AUDIT, Lesson, LogEntry, Question
from text_duel.conversations import Messages
from text_duel.labels import LabelRule
from text_duel.prompts import Prompt
from text_duel.verdicts import Label

# In the place of an exploration strategy.
EVALUATION = "evaluation"
# Features (2, d) and rewards (K, 2) of the two responses of each of N questions.
Score = Callable[[Sequence[Question]], Sequence[tuple[np.ndarray, np.ndarray]]]


def question_of(
    duel: SelectedDuel,
    round_index: int,
    *,
    messages: Messages | None,
    strategy: str,
    oracle: str,
    rule: LabelRule,
) -> Question:
    """A selected duel as the question that is written to the log.

    Args:
        duel: A real duel (not synthetic).
        round_index: The round.
        messages: The prompt if it is a conversation.
        strategy: The exploration strategy's name.
        oracle: The oracle's :attr:`text_duel.Oracle.name`.
        rule: How choices are drawn from its probabilities.
    """
    proposal = duel.proposal
    first, second = duel.responses
    return Question(
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
        strategy=AUDIT if duel.audited else strategy,
        oracle=oracle,
        labels=rule.labels,
        flip_noise=rule.flip_noise,
        prompt_messages=messages,
    )


def evaluation_question(
    evaluated: EvaluatedPrompt,
    prompt: Prompt,
    place: tuple[int, int],
    *,
    policy_version: int,
    oracle: str,
    rule: LabelRule,
) -> Question:
    """A policy's response against the initial policy's as a question.

    Args:
        evaluated: Has both.
        prompt: What they answer.
        place: Rounds before the evaluation, and the prompt's place among those held out.
        policy_version: Of the policy.
        oracle: The oracle's :attr:`text_duel.Oracle.name`.
        rule: How choices are drawn from its probabilities.
    """
    assert evaluated.pair is not None
    policys, initial = evaluated.pair
    return Question(
        round=place[0],
        position=place[1],
        prompt_id=prompt.id,
        prompt_text=prompt.text,
        prompt_token_ids=evaluated.prompt_token_ids,
        first=policys,
        second=initial,
        from_reference=(False, True),
        member=None,
        policy_version=policy_version,
        strategy=EVALUATION,
        oracle=oracle,
        labels=rule.labels,
        flip_noise=rule.flip_noise,
        prompt_messages=prompt.messages,
        purpose="evaluation",
    )


def as_asked(
    entries: Sequence[LogEntry], selected: Sequence[SelectedDuel], score: Score
) -> list[SelectedDuel]:
    """The round's duels as the log has them: what was asked is what counts.

    A run that is resumed selects a round again. On a CPU it selects the same duels, and they are
    returned as they are. If an engine gave other responses this time, the real duels are those of
    the log, made from it alone but for features and rewards, which are computed again; a real duel
    that the log does not have is left out, since a round is asked once.

    Args:
        entries: The round's questions, from :meth:`rllib_sea.preference_log.log.PreferenceLog.ask`.
        selected: The duels that were selected now, real and synthetic.
        score: Computes features and ensemble rewards of questions' responses.

    Returns:
        ``selected`` itself if its real duels are those of the log; otherwise the log's and the
        synthetic ones of other positions, by position.
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
    gone = {question.position for question in lost}
    kept = [
        duel
        for duel in selected
        if (duel.synthetic and duel.proposal.position not in asked)
        or (not duel.synthetic and duel.proposal.position in asked - gone)
    ]
    return sorted([*kept, *rebuilt(lost, score)], key=lambda duel: duel.proposal.position)


def labelled(
    round_index: int,
    asked: Sequence[SelectedDuel],
    lessons: Sequence[Lesson],
    late: Sequence[SelectedDuel],
) -> list[Duel]:
    """A round's duels that have a label.

    Args:
        round_index: The round.
        asked: Its duels, real and synthetic.
        lessons: What it learns from.
        late: The duels of those lessons that earlier rounds asked, in the order of the lessons.

    Returns:
        The duels of earlier rounds whose labels came late, then the round's own.
    """
    own = {lesson.position: lesson for lesson in lessons if lesson.round == round_index}
    earlier = [lesson for lesson in lessons if lesson.round != round_index]
    duels = [_learned(duel, lesson) for duel, lesson in zip(late, earlier, strict=True)]
    for duel in asked:
        if duel.synthetic:
            duels.append(duel.labelled(round_index))
        elif duel.proposal.position in own:  # nothing is learned from a skip, or not yet
            duels.append(_learned(duel, own[duel.proposal.position]))
    return duels


def rebuilt(questions: Sequence[Question], score: Score) -> list[SelectedDuel]:
    """The duels of questions of the log.

    Args:
        questions: The questions.
        score: Computes features and ensemble rewards of their responses.
    """
    scored = score(questions) if questions else []
    return [
        _rebuilt(question, features, rewards)
        for question, (features, rewards) in zip(questions, scored, strict=True)
    ]


def preference_pair(question: Question, label: Label) -> PreferencePair:
    """What the policy learns from a question of the log; of a tie the first response is chosen."""
    preference, origin = label.preference, question.from_reference
    chosen, rejected = question.first, question.second
    if preference < 0.5:
        preference, origin = 1.0 - preference, origin[::-1]
        chosen, rejected = rejected, chosen
    return PreferencePair(
        question.prompt_id,
        question.prompt_token_ids,
        chosen.token_ids,
        rejected.token_ids,
        synthetic=False,
        from_reference=which_from_reference(origin),
        preference=preference,
        weight=label.weight,
    )


def _learned(duel: SelectedDuel, lesson: Lesson) -> Duel:
    return duel.labelled(lesson.round, lesson.label, lesson.win_probability, lesson.scores)


def _is_same(question: Question, duel: SelectedDuel | None) -> bool:
    if duel is None:
        return False
    pairs = zip((question.first, question.second), duel.responses, strict=True)
    return question.prompt_text == duel.proposal.prompt_text and all(
        (asked.text, asked.token_ids) == (now.text, now.token_ids) for asked, now in pairs
    )


def _rebuilt(question: Question, features: np.ndarray, rewards: np.ndarray) -> SelectedDuel:
    """The duel of a question: its two responses are the proposal's only candidates."""
    # Candidates from the reference policy come last.
    order = [0, 1] if question.from_reference[0] <= question.from_reference[1] else [1, 0]
    responses = (question.first, question.second)
    return SelectedDuel(
        proposal=Proposal(
            position=question.position,
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
        audited=question.strategy == AUDIT,
        own_preference=math.nan,
    )
