"""The labelling part of the Algorithm: a round's selected duels in, labelled duels out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rllib_sea.duels.records import Duel, PreferencePair
from rllib_sea.duels.rounds import EvaluatedPrompt, Proposal
from rllib_sea.duels.selection import SelectedDuel
from rllib_sea.labelling.handle import LabellerHandle
from rllib_sea.labelling.labeller_settings import LabellerSettings, OracleIdentity
from rllib_sea.labelling.measuring import Measuring
from rllib_sea.labelling.questions import (
    Score,
    as_asked,
    evaluation_question,
    labelled,
    preference_pair,
    question_of,
    rebuilt,
)
from rllib_sea.policy.prompt_identity import PromptIndex
from rllib_sea.preference_log.reader import PreferenceReader
from rllib_sea.preference_log.records import ClosedRound, LogEntry
from text_duel.config import label_rule
from text_duel.conversations import Messages
from text_duel.prompts import Prompt


@dataclass(frozen=True, slots=True)
class LabelledRound:
    """What came of a round's questions.

    Attributes:
        asked: The round's duels as they were asked, the synthetic ones among them.
        duels: What is learned from: those of them that have a label, and duels of earlier rounds
            whose labels came late.
        num_answered: Questions that are answered, in the whole run.
        num_open: Questions that are open.
        num_skipped: Answered questions that say nothing to learn, in the whole run.
        num_withdrawn: Questions that were withdrawn, in the whole run.
        num_late: How many of ``duels`` are of earlier rounds.
        staleness: Rounds between the oldest question that is learned from and this round.
        people_idle_s: Seconds in which people had nothing to answer.
    """

    asked: list[SelectedDuel]
    duels: list[Duel]
    num_answered: int
    num_open: int
    num_skipped: int
    num_withdrawn: int
    num_late: int
    staleness: int
    people_idle_s: float


class Labelling:
    """Has duels labelled: questions go to the labeller, which alone writes the log.

    Args:
        settings: What the labeller is made from.
        prompts: What may be asked about.
        num_gpus: Of the labeller.
        strategy: The exploration strategy's name, for the log.
        ties: Whether anything is learned from ties.
        warn: Told of what the user should know, as soon as it is known.
        show: Told of waits in which nothing has failed, likewise.

    Attributes:
        labeller: The run's.
        measuring: What it is asked beside labels.
        log: The preference log, to be read.

    Raises:
        PreferenceLogError: The log cannot be used.
    """

    def __init__(
        self,
        settings: LabellerSettings,
        prompts: PromptIndex,
        *,
        num_gpus: float,
        strategy: str,
        ties: bool,
        warn: Callable[[str], None],
        show: Callable[[str], None],
    ) -> None:
        self.labeller = LabellerHandle(settings, num_gpus, warn, show)
        self._strategy = strategy
        self._ties = ties
        self._prompts = prompts
        self._label_rule = label_rule(settings.env_config)
        try:
            self._oracle: OracleIdentity = self.labeller.call("start")
            self.log = PreferenceReader(settings.log)
        except BaseException:
            self.labeller.close()
            raise
        self.measuring = Measuring(self.labeller, self._oracle)

    @property
    def asks_people(self) -> bool:
        """Whether people are asked, on a page."""
        return self._oracle.asks_people

    def open_page(self) -> dict[str, str]:
        """Serves people's page, unless it is served; returns each rater's secret link.

        Raises:
            ConfigError: Its port is taken.
        """
        return self.labeller.call("open_page") if self.asks_people else {}

    def tell_people(self, news: str) -> None:
        """Tells people what their answers did."""
        if self.asks_people:
            self.labeller.call("tell_people", news)

    def label(
        self, round_index: int, selected: Sequence[SelectedDuel], score: Score
    ) -> LabelledRound:
        """Asks the oracle about a round's real duels; the ERM has labelled the others.

        Every question is in the log before it is asked, every verdict as soon as it comes. A round
        that was asked before, by a run that was stopped in it, is not asked again.

        Args:
            round_index: The round.
            selected: Its duels.
            score: See :func:`rllib_sea.labelling.questions.as_asked`.

        Raises:
            OracleAwayError: The round can be tried again.
        """
        questions = [
            question_of(
                duel,
                round_index,
                messages=self._messages(duel.proposal),
                strategy=self._strategy,
                oracle=self._oracle.name,
                rule=self._label_rule,
            )
            for duel in selected
            if not duel.synthetic
        ]
        before = self.labeller.call("ask", round_index, questions)
        asked = as_asked(before, selected, score) if before else list(selected)
        # A round without questions is one that waits for what is open.
        prompts = {key: self._prompts.find(*key) for key in self.log.open_prompts()}
        self.labeller.call("label", round_index, prompts, None if asked else 1.0)
        closed: ClosedRound = self.labeller.call("close_round", round_index)
        late = [lesson.id for lesson in closed.lessons if lesson.round != round_index]
        late_questions = [entry.question for entry in self.log.entries(late)] if late else []
        duels = labelled(round_index, asked, closed.lessons, rebuilt(late_questions, score))
        if not self._ties:
            duels = [duel for duel in duels if not duel.label.is_tie]
        return LabelledRound(
            asked=asked,
            duels=duels,
            num_answered=closed.num_answered,
            num_open=closed.num_open,
            num_skipped=self.log.num_skipped(),
            num_withdrawn=self.log.num_withdrawn(),
            num_late=len(late),
            staleness=max((round_index - lesson.round for lesson in closed.lessons), default=0),
            people_idle_s=self.labeller.call("take_people_idle_s") if self.asks_people else 0.0,
        )

    def judge(
        self,
        round_index: int,
        evaluated: Sequence[EvaluatedPrompt],
        prompts: Sequence[Prompt],
        policy_version: int,
    ) -> list[EvaluatedPrompt]:
        """Has people say which is better, a policy's response or the initial policy's.

        Of equal texts nobody is asked: each counts half. What was asked before, by a run that was
        stopped here, is not asked again.

        Args:
            round_index: Rounds before the evaluation.
            evaluated: The prompts with both responses.
            prompts: The same prompts.
            policy_version: Of the policy.

        Returns:
            The prompts with what was said; without an answer, or if it was a skip, there is no
            win probability.

        Raises:
            OracleAwayError: The labeller cannot be kept alive.
        """
        pairs = list(zip(evaluated, prompts, strict=True))
        questions = [
            evaluation_question(
                one,
                prompt,
                (round_index, place),
                policy_version=policy_version,
                oracle=self._oracle.name,
                rule=self._label_rule,
            )
            for place, (one, prompt) in enumerate(pairs)
            if one.greedy.response != one.initial_response
        ]
        entries: list[LogEntry] = self.labeller.call("judge", round_index, questions)
        said = {entry.question.position: entry for entry in entries}
        return [_judged(one, said.get(place)) for place, one in enumerate(evaluated)]

    def _messages(self, proposal: Proposal) -> Messages | None:
        """A proposal's prompt as a conversation, if it is one."""
        prompt = self._prompts.find(proposal.prompt_id, proposal.prompt_text)
        return None if prompt is None else prompt.messages

    def is_all_learned(self, num_rounds: int) -> bool:
        """Whether the first rounds have learned from all labels that are there.

        With ``ask_ahead`` the answers to a round's questions may have come before it has learned
        from those of the round before.
        """
        return self.log.num_to_learn(num_rounds) == 0

    def learned(self, num_rounds: int) -> list[int]:
        """Ids of all questions that the first rounds learned from, for :meth:`pairs`."""
        return self.log.learned(num_rounds, ties=self._ties)

    def pairs(self, ids: Sequence[int]) -> tuple[list[PreferencePair], list[int]]:
        """The preference pairs of questions, and the rounds that asked them."""
        entries = self.log.entries(ids)
        pairs = [preference_pair(e.question, e.label) for e in entries if e.label is not None]
        return pairs, [entry.question.round for entry in entries]

    def copy_log_to(self, path: Path) -> None:
        """Writes a copy for a checkpoint."""
        self.log.copy_to(path)

    def inherit(self, source: Path) -> None:
        """Starts from a checkpoint's copy of a log, if this run has asked nothing yet."""
        if self.log.num_questions() == 0:
            self.labeller.call("inherit", source)

    def close(self) -> None:
        """Ends the labeller."""
        self.log.close()
        self.labeller.close()


def _judged(evaluated: EvaluatedPrompt, entry: LogEntry | None) -> EvaluatedPrompt:
    """A prompt with what people said about its question, if it has one."""
    if entry is None:  # both responses are one text
        win, asked = 0.5, 0
    else:
        win, asked = math.nan if entry.label is None else entry.label.preference, 1
    greedy = evaluated.greedy
    greedy = replace(greedy, win_vs_initial=win, num_questions=greedy.num_questions + asked)
    return replace(evaluated, greedy=greedy)
