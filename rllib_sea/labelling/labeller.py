"""The labeller: owns a run's oracle, and is the only one who writes its preference log.

One actor per run, with a life of its own: what the oracle does costs no env runner and no engine.
The class knows nothing of Ray; :mod:`rllib_sea.labelling.handle` makes it an actor and calls it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_sea.labelling.asking import Asking, Comparison, OracleUnusableError
from rllib_sea.labelling.drawing import drawn
from rllib_sea.labelling.in_flight import InFlight
from rllib_sea.labelling.labeller_settings import LabellerSettings, OracleIdentity
from rllib_sea.labelling.measurements import Measurements
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import ClosedRound, LogEntry, Question
from text_duel.config import label_rule, oracle_options
from text_duel.labels import LabelRule
from text_duel.oracles import Oracle, make_oracle
from text_duel.oracles.people import PeopleOracle
from text_duel.prompts import Prompt
from text_duel.verdicts import Verdict

if TYPE_CHECKING:
    from rllib_sea.labelling.web.page_of_log import PageOfLog

logger = logging.getLogger(__name__)

# Skips one after another, after which an oracle decides nothing: each of them costs a query.
MAX_SKIPS_IN_A_ROW = 64


class Labeller:
    """Asks the oracle and writes down what it says.

    Every method can be called again after a process that held a labeller died: a new one goes on
    with the log.

    Args:
        settings: See :class:`LabellerSettings`.
    """

    def __init__(self, settings: LabellerSettings) -> None:
        self._settings = settings
        self._warnings: list[str] = []
        self._waits: list[str] = []
        self._skips_in_a_row = 0
        self._has_skipped = False
        # Questions that this process wrote and that are open, so that they are not read again.
        self._written: dict[int, Question] = {}
        self._in_flight = InFlight()
        self._withdrawn: set[int] = set()
        self._num_cut_told = 0

    @cached_property
    def _log(self) -> PreferenceLog:
        return PreferenceLog(self._settings.log, self._settings.run)

    @cached_property
    def oracle(self) -> Oracle:
        """The oracle, loaded when it is first wanted."""
        oracle = make_oracle(**oracle_options(self._settings.env_config))
        torch = sys.modules.get("torch")
        if torch is not None and self._settings.num_threads is not None:
            torch.set_num_threads(self._settings.num_threads)
        return oracle

    @cached_property
    def _page(self) -> PageOfLog | None:
        """The page on which people are asked; None if nobody is."""
        if not isinstance(self.oracle, PeopleOracle):
            return None
        # A web server, which no other labeller needs.
        from rllib_sea.labelling.web.page_of_log import PageOfLog

        return PageOfLog(
            self._log,
            self.oracle,
            budget=self._settings.query_budget,
            evaluates=self._settings.evaluates,
            on_answer=self._told_by_people,
            warn=self._warn,
        )

    @cached_property
    def _asking(self) -> Asking:
        return Asking(self.oracle, self._settings.keys, self._warn, self._waits.append)

    @cached_property
    def _measurements(self) -> Measurements:
        return Measurements(self._asking, self._warn)

    @cached_property
    def _label_rule(self) -> LabelRule:
        return label_rule(self._settings.env_config)

    async def start(self) -> OracleIdentity:
        """Loads the oracle, and opens the log.

        Raises:
            PreferenceLogError: The log cannot be used.
        """
        _ = self._log
        oracle = await asyncio.to_thread(lambda: self.oracle)
        return OracleIdentity(oracle.name, oracle.has_scores, oracle.asks_people)

    async def open_page(self) -> dict[str, str]:
        """Serves the page on which people are asked, unless it is served already.

        Returns:
            Each rater's secret link, by their names; nothing if no people are asked.

        Raises:
            ConfigError: Its port is taken.
        """
        return {} if self._page is None else await self._page.open()

    async def take_people_idle_s(self) -> float:
        """For how many seconds people had nothing to answer, since the last call."""
        return 0.0 if self._page is None else self._page.idle.take()

    async def tell_people(self, news: str) -> None:
        """Tells people what their answers did."""
        if self._page is not None:
            self._page.desk.tell(news)

    # -- Labels -----------------------------------------------------------------------

    async def ask(self, round_index: int, questions: Sequence[Question]) -> list[LogEntry]:
        """Writes a round's questions to the log; see :meth:`PreferenceLog.ask`.

        Returns:
            What the round asked before, by a run that was stopped in it, and asks instead; nothing
            if the given questions were written.
        """
        was_asked = self._log.num_questions(round_index) > 0
        entries = self._log.ask(round_index, questions)
        if was_asked:
            return entries
        self._written |= {entry.id: entry.question for entry in entries}
        if self._page is not None:
            self._page.asked()
        return []

    async def label(
        self,
        round_index: int,
        prompts: Mapping[tuple[str, str], Prompt | None],
        wait_for: float | None = None,
    ) -> None:
        """Puts open questions to the oracle, those of earlier rounds among them, and waits.

        With ``ask_ahead`` it waits for the round before.

        Args:
            round_index: The round.
            prompts: Those of all open questions, by :attr:`Question.prompt_key`. A question whose
                prompt the run does not have any more is withdrawn.
            wait_for: The share of the questions, its own and all earlier ones, to wait for; None:
                as configured.

        Raises:
            OracleAwayError: The oracle does not answer, or decides nothing; what it did answer is
                written down. A question that it can never answer is withdrawn.
        """
        keys = self._settings.keys
        share = keys.wait_for if wait_for is None else wait_for
        waits_for_all = wait_for is not None or (share == 1.0 and keys.label_deadline_s is None)
        awaited = self._newest_learned(round_index)
        in_flight = self._in_flight
        in_flight.begin_round()
        # Each question is waited for once before its rounds are counted.
        self._withdraw_old(round_index - 1 if keys.ask_ahead else round_index)
        asked = in_flight.ids
        new = self._questions([key for key in self._log.open_ids() if key not in asked])
        comparisons = {}
        for key, question in new.items():
            prompt = prompts.get(question.prompt_key)
            if prompt is not None and prompt.content == question.prompt:
                comparisons[key] = Comparison(prompt, question.first.text, question.second.text)
        self._withdraw_lost({key: new[key] for key in new if key not in comparisons})
        for ahead in (False, True):
            some = {k: comparisons[k] for k in comparisons if (new[k].round > awaited) == ahead}
            if some:
                in_flight.ask(self._answer(new, some), some.keys(), ahead=ahead)
        if waits_for_all:
            await in_flight.all_answered()
        else:
            await self._wait_for(share, awaited)
        in_flight.raise_failure()

    def _newest_learned(self, round_index: int) -> int:
        """The last round from whose questions a round learns, if it is not one that asks none."""
        is_ahead = self._settings.keys.ask_ahead and self._log.num_questions(round_index) > 0
        return round_index - 1 if is_ahead else round_index

    async def _wait_for(self, share: float, round_index: int) -> None:
        """Waits for a share of a round's answers, and not past the deadline."""
        num_questions = self._log.num_questions(round_index)
        enough = math.floor((1.0 - share) * num_questions)
        try:
            await self._in_flight.enough_answered(
                lambda: self._log.num_open(round_index) <= enough,
                self._settings.keys.label_deadline_s,
            )
        except TimeoutError:
            self._warn(
                f"{self._log.num_open(round_index)} of the {num_questions} labels of round "
                f"{round_index} have not come within {self._settings.keys.label_deadline_s:g} s "
                "(label_deadline_s): the run goes on without them"
            )

    async def judge(self, round_index: int, questions: Sequence[Question]) -> list[LogEntry]:
        """Puts an evaluation's questions to people, and waits, at most for ``label_deadline_s``.

        They are asked once, whoever comes again. Those that are not answered in time are withdrawn.

        Args:
            round_index: Rounds before the evaluation.
            questions: All its questions.

        Returns:
            The questions as they stand.
        """
        assert self._page is not None, "people are asked"
        entries = self._log.ask(round_index, questions, "evaluation")
        self._page.asked()
        left = [entry.id for entry in entries if entry.state in ("open", "leased")]
        if left:
            number = "1 question waits" if len(left) == 1 else f"{len(left)} questions wait"
            self._waits.append(f"{number} for people, who compare the policy with the initial one")
            within = self._settings.keys.label_deadline_s
            late = await self._page.judged(left, within)
            if late:
                self._withdraw(late, f"of an evaluation, not answered within {within:g} s")
        return self._log.round(round_index, "evaluation")

    async def close_round(self, round_index: int) -> ClosedRound:
        """Settles what a round learns from; see :meth:`PreferenceLog.close_round`."""
        closed = self._log.close_round(round_index, self._newest_learned(round_index))
        if self._page is not None:
            self._page.desk.learned(round_index, closed.lessons)
        return closed

    def _questions(self, ids: Sequence[int]) -> dict[int, Question]:
        """Open questions by their ids, in the order of the ids."""
        unknown = [key for key in ids if key not in self._written]
        read = {entry.id: entry.question for entry in self._log.entries(unknown)}
        return {key: self._written.get(key) or read[key] for key in ids}

    def _forget(self, ids: Iterable[int]) -> None:
        for key in ids:
            self._written.pop(key, None)

    def _withdraw_old(self, round_index: int) -> None:
        after = self._settings.keys.withdraw_after
        if after is None:
            return
        old = self._log.open_ids(round_index - after)
        if old:
            self._withdraw(old, f"not answered within {after} rounds")

    def _withdraw(self, ids: Sequence[int], reason: str) -> None:
        self._log.withdraw(ids, reason)
        if self._page is not None:
            self._page.withdrawn(ids)
        self._withdrawn.update(ids)
        self._forget(ids)
        number = "1 question is" if len(ids) == 1 else f"{len(ids)} questions are"
        self._warn(f"{number} withdrawn: {reason}")

    def _withdraw_lost(self, questions: Mapping[int, Question]) -> None:
        """Takes questions back whose prompts are gone: nobody could be shown what was asked."""
        if not questions:
            return
        first = next(iter(questions.values()))
        self._withdraw(
            list(questions),
            "no training prompts of the run any more: gone, edited or held out, such as "
            f"{first.prompt_id!r} of round {first.round}",
        )

    async def _answer(
        self, questions: Mapping[int, Question], comparisons: Mapping[int, Comparison]
    ) -> None:
        """Has questions answered, and writes each verdict when it comes.

        Args:
            questions: By their ids.
            comparisons: What is asked, by the ids of its questions.
        """
        ids = list(comparisons)
        if self._page is not None:
            number = "1 question waits" if len(ids) == 1 else f"{len(ids)} questions wait"
            self._waits.append(f"{number} for people")
            await self._page.settled(ids)
            return
        rater = self.oracle.name
        self._log.lease(ids, rater, self._settings.keys.oracle_timeout_s)

        def write(verdicts: Mapping[int, Verdict]) -> None:
            given = {ids[place]: verdict for place, verdict in verdicts.items()}
            rule, seed = self._label_rule, self._settings.run.seed
            given = {key: drawn(questions[key], one, rule, seed) for key, one in given.items()}
            self._log.give(rater, given)
            self._forget(given)
            for key, verdict in given.items():
                self._note_skip(questions[key], verdict)
            self._in_flight.tell()

        asked = list(comparisons.values())
        refused = await self._asking.ask(asked, write, lambda place: ids[place] in self._withdrawn)
        by_reason: dict[str, list[int]] = {}
        for place, reason in refused.items():
            by_reason.setdefault(reason, []).append(ids[place])
        for reason, some in by_reason.items():
            self._withdraw(some, reason)
        if self._skips_in_a_row >= MAX_SKIPS_IN_A_ROW:
            skips, self._skips_in_a_row = self._skips_in_a_row, 0
            raise OracleUnusableError(f"oracle {rater} has skipped {skips} questions in a row")

    def _told_by_people(self, key: int) -> None:
        """Takes note of an answer that the page has written."""
        self._forget([key])
        self._in_flight.tell()

    def _note_skip(self, question: Question, verdict: Verdict) -> None:
        """Counts questions that nobody decides; the first of them is told."""
        is_skip = verdict.choice == "skip"
        self._skips_in_a_row = self._skips_in_a_row + 1 if is_skip else 0
        if not self._has_skipped and (is_skip or verdict.choice == "both_bad"):
            self._has_skipped = True
            self._warn(
                f"round {question.round}, position {question.position}: nothing to learn, "
                f"{verdict.choice}: {verdict.reason or 'no reason given'}; from now on see "
                "num_skipped_questions"
            )

    # -- Measuring: nothing is learned from it, nothing of it is in the log ------------------------

    async def compare(self, comparisons: Sequence[Comparison]) -> list[float]:
        """Win probabilities, see :meth:`Measurements.compare`."""
        return await self._measurements.compare(comparisons)

    async def score(self, responses: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The oracle's scores of responses, see :meth:`Measurements.score`."""
        return await self._measurements.score(responses)

    async def take_num_cut(self) -> int:
        """Of how many texts the oracle has read the beginning only, since the last call."""
        told, self._num_cut_told = self._num_cut_told, self.oracle.num_cut
        return self._num_cut_told - told

    # -- The log and the process -------------------------------------------------------------------

    async def inherit(self, source: Path) -> None:
        """Starts the log with all that another log has; see :meth:`PreferenceLog.inherit`."""
        self._log.inherit(source)
        if self._page is not None:
            self._page.asked()

    async def take_warnings(self) -> list[str]:
        """What the user should know, each once."""
        taken, self._warnings = self._warnings, []
        return taken

    async def take_waits(self) -> list[str]:
        """What is waited for, though nothing is wrong yet, each once."""
        taken = self._waits[:]
        self._waits.clear()  # whoever asks appends to it
        return taken

    async def process_id(self) -> int:
        """The process that runs this, for fault tests."""
        return os.getpid()

    async def close(self) -> None:
        """Ends the page if there is one, and lets another writer to the log in."""
        page = self.__dict__.get("_page")
        if page is not None:
            await page.close()
        if "_log" in self.__dict__:
            self._log.close()

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self._warnings.append(text)
