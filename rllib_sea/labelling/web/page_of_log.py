"""The page of one log, from its parts: links, desk, server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from rllib_sea.labelling.web.app import make_app
from rllib_sea.labelling.web.checks import Checks
from rllib_sea.labelling.web.desk import Desk
from rllib_sea.labelling.web.idle import IdleTime
from rllib_sea.labelling.web.judging import Judging
from rllib_sea.labelling.web.raters import Raters
from rllib_sea.labelling.web.server import PageServer, is_loopback, listen
from rllib_sea.preference_log.log import PreferenceLog
from text_duel.oracles.people import PeopleOracle


class PageOfLog:
    """Serves a log's questions to people.

    Args:
        log: The log, which this process alone writes.
        people: Who is asked, and where.
        budget: How many questions the run will ask for, to be shown.
        evaluates: Whether questions of an evaluation come after them.
        has_run: Whether a run asks, and learns.
        on_answer: Told of questions that were answered.
        warn: Told of what the user should know.

    Attributes:
        desk: What is asked and answered.
        idle: For how long people had nothing to answer.
        raters: Who has which link.
    """

    def __init__(
        self,
        log: PreferenceLog,
        people: PeopleOracle,
        *,
        budget: int | None = None,
        evaluates: bool = False,
        has_run: bool = True,
        on_answer: Callable[[int], None] = lambda key: None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._log = log
        self._people = people
        self._warn = warn
        self._server: PageServer | None = None
        self.raters = Raters(log.path)
        self.raters.invite(people.raters)
        self.desk = Desk(
            log,
            lease_s=people.lease_s,
            undo_s=people.undo_s,
            judging=Judging(log, people.labels_by, people.raters_per_question, people.overlap),
            checks=Checks(
                log, people.gold, people.gold_share, people.repeat_share, oracle=people.name
            ),
            budget=budget,
            evaluates=evaluates,
            has_run=has_run,
            on_answer=self._answered,
        )
        self._on_answer = on_answer
        self.idle = IdleTime()
        self._title = log.run.run_id

    async def open(self) -> dict[str, str]:
        """Begins to serve, unless it does already; returns each rater's secret link.

        Raises:
            ConfigError: The port is taken.
        """
        if self._server is None:
            people, before = self._people, self.raters.port
            listening = listen(people.host, people.port, before)
            app = make_app(self.desk, self.raters, title=self._title, rubric=self._people.rubric)
            self._server = PageServer(app, listening)
            self.raters.served_at(people.host, self._server.port, people.options)
            await self._server.start()
            if not people.port and before not in (None, self._server.port):
                self._warn(
                    f"port {before} of the raters' links is taken: the page is at port "
                    f"{self._server.port} now, and `rllib-sea label` of the log prints the links"
                )
            if not is_loopback(people.host):
                self._warn(
                    f"the page is served on {people.host} without encryption: whoever is in "
                    "between reads links and texts; put HTTPS before it, or a tunnel"
                )
        return self.raters.links()

    def asked(self) -> None:
        """Shows the questions that were written to the log since."""
        self.desk.refresh()
        self.idle.note(self.desk.num_open)

    def withdrawn(self, ids: Collection[int]) -> None:
        """Shows questions no more that the run has taken back."""
        self.desk.withdrawn(ids)
        self.idle.note(self.desk.num_open)

    def _answered(self, key: int) -> None:
        self.idle.note(self.desk.num_open)
        self._on_answer(key)

    async def judged(self, ids: Sequence[int], within_s: float | None) -> list[int]:
        """Has people answer an evaluation's questions.

        Args:
            ids: Of its questions that are open.
            within_s: For how long they are waited for; None: for ever.

        Returns:
            Those that stayed open.
        """
        self.desk.tell(
            "The last questions compare what the model says now with what it said at first. "
            "They are counted apart, and nothing is learned from them."
        )
        try:
            async with asyncio.timeout(within_s):
                await self.settled(ids)
        except TimeoutError:
            pass
        return [key for key in ids if self.desk.is_open(key)]

    async def settled(self, ids: Sequence[int] | Collection[int]) -> None:
        """Opens the page, and waits for people; see :meth:`Desk.settled`."""
        await self.open()
        await self.desk.settled(ids)

    async def close(self) -> None:
        """Ends it; pages say so to who is looking at them."""
        self.desk.close()
        if self._server is not None:
            await self._server.stop()
            self._server = None
