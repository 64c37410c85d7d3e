"""Between the preference log and whoever labels: hands questions out, takes answers in.

Free of HTTP. It lives in one event loop, that of the log's writer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from rllib_sea.labelling.web.checks import Checks
from rllib_sea.labelling.web.desk_records import (
    Answer,
    Kept,
    Phase,
    Progress,
    RefusedError,
    ShownQuestion,
    own_choice,
    page_choice,
    says_the_same,
)
from rllib_sea.labelling.web.judging import Judging
from rllib_sea.labelling.web.queue import QuestionQueue, QueuedQuestion
from rllib_sea.labelling.web.showing import Showing
from rllib_sea.labelling.web.tally import Tally
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import Lesson
from text_duel.verdicts import Verdict

# For how long a round waits for somebody who has taken an answer back.
REOPENED_S = 60.0


class Desk:
    """Hands out the questions of a log, and writes down what people say.

    Args:
        log: The log, which nobody else writes.
        lease_s: For how long a question is somebody's.
        undo_s: How long a round waits after its last answer.
        judging: Who judges, and what labels are made of; None: one rater each question.
        checks: What is put before raters beside questions for labels; None: nothing.
        budget: How many questions for labels the run will ask, to be shown.
        evaluates: Whether questions of an evaluation come after them.
        has_run: Whether a run asks, and learns.
        on_answer: Told of questions that were answered.
        clock: The time, in seconds since 1970.
    """

    def __init__(
        self,
        log: PreferenceLog,
        *,
        lease_s: float,
        undo_s: float = 0.0,
        judging: Judging | None = None,
        checks: Checks | None = None,
        budget: int | None = None,
        evaluates: bool = False,
        has_run: bool = True,
        on_answer: Callable[[int], None] = lambda key: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._lease_s = lease_s
        self._undo_s = undo_s
        self._judging = Judging(log) if judging is None else judging
        self._checks = Checks(log) if checks is None else checks
        self._showing = Showing(log)
        self._budget = budget
        self._evaluates = evaluates  # that is still to come
        self._has_run = has_run
        self._on_answer = on_answer
        self._clock = clock
        self._queue = QuestionQueue(lease_s)
        opened_at = next(log.query("SELECT opened_at FROM runs ORDER BY id LIMIT 1"))[0]
        self._identity = f"{log.run.run_id} {opened_at}"
        self._known = 0  # ids up to this one are in the queue, or done with
        self._reopened: dict[int, tuple[str, float]] = {}
        self._answered_at: dict[int, float] = {}  # of questions that a round may wait for
        self._changed = asyncio.Event()
        self._closed = False
        self._news = ""
        self._tally = Tally(log, clock)
        self.refresh()

    # -- What raters do ---------------------------------------------------------------

    def hand_out(self, rater: str, count: int) -> list[ShownQuestion]:
        """Puts questions before a rater; see :meth:`QuestionQueue.hand_out`.

        Args:
            rater: Who.
            count: How many they want to have ahead.
        """
        checks = self._checks.open_ids(rater)
        ids, leased = self._queue.hand_out(rater, max(0, count - len(checks)), self._clock())
        before = {key: self._checks.before(key, rater) for key in leased}
        leased += [check for check in before.values() if check is not None]
        if leased:
            self._log.lease(leased, rater, self._lease_s)
        return self._shown([*checks, *ids][:count], rater)

    def show(self, rater: str, key: int) -> ShownQuestion:
        """Shows a question that was put before a rater.

        Raises:
            RefusedError: It was not, or there is none.
        """
        self._state(key)
        self._check_leased(key, rater)
        return self._shown([key], rater)[0]

    def answer(self, rater: str, given: Answer) -> Kept:
        """Writes an answer down.

        The same one sent again, after a lost connection, is one answer.

        Raises:
            RefusedError: The question was never put before the rater, or they gave another answer
                before.
            PreferenceLogError: It cannot be written; nothing was.
        """
        key = given.question
        state = self._state(key)
        self._check_leased(key, rater)
        shown_first = self._showing.left(key, rater)
        verdict = Verdict(
            own_choice(given.choice, shown_first),
            strength=given.strength,
            reason=given.reason,
            seconds=given.seconds,
            shown_first=shown_first,
        )
        standing = self._standing(key, rater)
        if standing is not None and says_the_same(standing, verdict):
            self._take_up(key)
            return Kept("already", "it was sent before, and counts once")
        if standing is not None:
            if not given.correction:
                said = page_choice(standing.choice, shown_first)
                raise RefusedError(
                    f"you have answered question {key} before ({said}); that stays, unless you "
                    "take it back"
                )
            self._check_unlearned(key)
            rule, needed = self._judging.rule_of(key)
            self._log.correct(key, rater, verdict, rule=rule, needed=needed)
            self._take_up(key)
            return Kept("kept")
        rule, needed = self._judging.rule_of(key)
        self._log.give(rater, {key: verdict}, rule=rule, needed=needed)
        if self._checks.answered(key, rater):
            self._tally.answered(rater)
            self._tell()
            return Kept("kept")
        self._queue.answered(key, rater)
        self._tally.answered(rater)
        if state == "open" and not self._queue.is_open(key):
            self._tally.labelled(key)
        self._answered_at[key] = self._clock()
        self._on_answer(key)
        self._tell()
        if state == "withdrawn":
            return Kept("withdrawn", "the question was withdrawn meanwhile: nothing is learned")
        others = [one.rater for one in self._log.standing_verdicts([key])[key]]
        if state == "answered" and len(others) > self._judging.wanted_of(key):
            return Kept("late", f"{others[0]} answered it meanwhile: yours is kept beside it")
        return Kept("kept")

    def reopen(self, rater: str, key: int | None = None) -> ShownQuestion:
        """Takes an answer back to a rater, who may give another one in its place.

        Until they do, it stands.

        Args:
            rater: Who.
            key: The question; None: the last one that they answered and have not taken back.

        Raises:
            RefusedError: There is none, or a round has learned from it.
        """
        if key is None:
            rows = self._log.query(
                "SELECT question_id FROM verdicts WHERE rater = ? AND replaces IS NULL "
                "ORDER BY id DESC LIMIT 100",
                rater,
            )
            mine = (found for (found,) in rows)
            key = next((k for k in mine if self._reopened.get(k, ("",))[0] != rater), None)
            if key is None:
                raise RefusedError("there is no answer of yours to take back", 404)
        self._state(key)
        standing = self._standing(key, rater)
        if standing is None:
            raise RefusedError(f"question {key} has no answer of yours", 404)
        self._check_unlearned(key)
        self._reopened[key] = (rater, self._clock() + REOPENED_S)
        self._tell()
        return self._shown([key], rater, standing)[0]

    def progress(self, rater: str) -> Progress:
        """How a rater and the run stand."""
        mine, mine_today, learned_mine = self._tally.of_rater(rater)
        round_questions, round_open = self._tally.of_round()
        return Progress(
            log=self._identity,
            rater=rater,
            phase=self._phase(),
            round=self._tally.round,
            round_questions=round_questions,
            round_open=round_open,
            answered=self._tally.num_answered,
            open=self._queue.num_open,
            budget=self._budget,
            mine=mine,
            mine_today=mine_today,
            learned_round=self._tally.learned_round,
            learned_mine=learned_mine,
            news=self._news,
        )

    def _phase(self) -> Phase:
        is_open = self._queue.num_open > 0
        used = self._budget and self._tally.num_answered >= self._budget
        if not is_open and used and not self._evaluates:
            return "done"
        if self._closed:
            return "closed"
        if is_open:
            return "asking"
        return "learning" if self._has_run else "away"

    # -- What the run does ------------------------------------------------------------

    def refresh(self) -> None:
        """Takes in the questions that were written to the log since."""
        rows = list(
            self._log.query(
                "SELECT question_id, purpose, round, position, state FROM states "
                "WHERE question_id > ? AND purpose IN ('label', 'evaluation') "
                "ORDER BY round, position",
                self._known,
            )
        )
        if not rows:
            return
        before, self._known = self._known, max(row[0] for row in rows)
        wanted: dict[int, tuple[int, int, int]] = {}
        for key, purpose, round_index, position, state in rows:
            if purpose == "label":
                self._tally.asked(key, round_index, is_open=state == "open")
            self._evaluates &= purpose != "evaluation"
            number = self._judging.wanted(purpose, round_index, position)
            if state == "open" or (state == "answered" and number > 1):
                wanted[key] = (round_index, position, number)
        given: dict[int, set[str]] = {key: set() for key in wanted}
        # The newest lease of a question is its last row here.
        leases = {
            key: (rater, datetime.fromisoformat(until).timestamp())
            for key, rater, until in self._log.query(
                "SELECT question_id, rater, ends_at FROM leases WHERE question_id > ? ORDER BY id",
                before,
            )
            if key in wanted
        }
        for key, rater in self._log.query(
            "SELECT question_id, rater FROM standing_verdicts WHERE question_id > ?", before
        ):
            if key in wanted:
                given[key].add(rater)
        for key, (round_index, position, number) in wanted.items():
            rule, needed = self._judging.rule_of(key)
            if len(given[key]) >= needed and self._state(key) == "open":
                # By another rule, or of more raters, it would have had no label yet.
                self._log.derive(key, rule, needed)
                self._tally.labelled(key)
            holder, until = leases.get(key, (None, 0.0))
            if holder in given[key]:
                holder = None
            self._queue.add(
                QueuedQuestion(
                    key, (round_index, position), number, needed, given[key], holder, until
                )
            )
        self._tell()

    def withdrawn(self, ids: Iterable[int]) -> None:
        """Forgets questions that the run has taken back."""
        ids = list(ids)
        self._queue.withdraw(ids)
        for key in ids:
            self._tally.closed(key)
        self._tell()

    def learned(self, round_index: int, lessons: Sequence[Lesson]) -> None:
        """Tells raters what a round has learned from."""
        self._tally.learned(round_index, lessons)
        self._news = ""
        now = self._clock()
        self._answered_at = {k: t for k, t in self._answered_at.items() if t + self._undo_s > now}
        self._tell()

    def tell(self, news: str) -> None:
        """Tells raters what their answers did, beside what they were told of the round."""
        self._news = f"{self._news} {news}".strip()
        self._tell()

    async def settled(self, ids: Collection[int]) -> None:
        """Waits until questions are answered or withdrawn, and nobody is about to change that."""
        left = set(ids)
        while True:
            changed = self._changed
            left = {key for key in left if self._queue.is_open(key)}
            if not left:
                now = self._clock()
                ends = [self._reopened[key][1] for key in ids if key in self._reopened]
                ends += [
                    self._answered_at[key] + self._undo_s for key in ids if key in self._answered_at
                ]
                wait = max(ends, default=now) - now
                if wait <= 0:
                    return
                try:
                    async with asyncio.timeout(wait):
                        await changed.wait()
                except TimeoutError:
                    pass
                continue
            await changed.wait()

    def is_open(self, key: int) -> bool:
        """Whether a question has no label."""
        return self._queue.is_open(key)

    @property
    def num_open(self) -> int:
        """How many questions nobody has answered."""
        return self._queue.num_open

    def next_change(self) -> asyncio.Event:
        """Set at the next change of what :meth:`progress` says."""
        return self._changed

    @property
    def is_closed(self) -> bool:
        """Whether the page ends."""
        return self._closed

    def close(self) -> None:
        """Tells whoever waits that the page ends."""
        self._closed = True
        self._tell()

    # -- Inside -----------------------------------------------------------------------

    def _shown(
        self, ids: Sequence[int], rater: str, standing: Verdict | None = None
    ) -> list[ShownQuestion]:
        """See :meth:`Showing.shown`."""
        return self._showing.shown(ids, rater, self._tally.round or 0, standing)

    def _state(self, key: int) -> str:
        rows = self._log.query("SELECT state FROM states WHERE question_id = ?", key)
        for (state,) in rows:
            return state
        raise RefusedError(f"there is no question {key}", 404)

    def _check_leased(self, key: int, rater: str) -> None:
        rows = self._log.query(
            "SELECT 1 FROM leases WHERE question_id = ? AND rater = ? LIMIT 1", key, rater
        )
        if next(rows, None) is None:
            raise RefusedError(f"question {key} was never put before {rater}")

    def _standing(self, key: int, rater: str) -> Verdict | None:
        given = self._log.standing_verdicts([key])[key]
        return next((one.verdict for one in given if one.rater == rater), None)

    def _check_unlearned(self, key: int) -> None:
        for (learned_in,) in self._log.query(
            "SELECT round FROM lessons WHERE question_id = ?", key
        ):
            raise RefusedError(
                f"round {learned_in + 1} has learned from your answer to question {key}: it stays"
            )

    def _take_up(self, key: int) -> None:
        """Notes that a question which was taken back has its answer again."""
        if self._reopened.pop(key, None) is not None:
            self._answered_at[key] = self._clock()
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
