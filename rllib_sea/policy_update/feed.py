"""The feed: an actor between the Algorithm, which gives commands, and the workers.

Commands form a log. Every worker reads it from the place of the last snapshot on, so a worker
group that was started anew repeats the updates since then and arrives at the same weights;
nothing that was committed is answered twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses

WhichWeights = Literal["trained", "initial", "rehearsal"]


@dataclass(frozen=True, slots=True)
class Update:
    """One optimizer step. Answer: the metrics, or :class:`Refusal`."""

    pairs: tuple[PreferencePair, ...]


@dataclass(frozen=True, slots=True)
class Reinforce:
    """One optimizer step. Answer: as that of :class:`Update`."""

    prompts: tuple[CandidateAdvantages, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Score responses. Answer: :class:`rllib_sea.policy_update.scores.ResponseScores`."""

    prompts: tuple[PromptResponses, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """Put weights into the object store. Answer: a list with the reference.

    Attributes:
        which: See :meth:`rllib_sea.policy_update.learner.PolicyLearner.weights`.
    """

    which: WhichWeights = "trained"


@dataclass(frozen=True, slots=True)
class Save:
    """Write the learner's state to a folder. Answer: None."""

    folder: str


@dataclass(frozen=True, slots=True)
class Load:
    """Go on from a folder. Answer: the version of its weights."""

    folder: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End. No answer."""


Command = Update | Reinforce | Score | Weights | Save | Load | Stop


@dataclass(frozen=True, slots=True)
class Refusal:
    """An update that was not finite and was not applied."""

    reason: str


@dataclass(frozen=True, slots=True)
class Start:
    """Where a worker begins.

    Attributes:
        position: The first command to read.
        snapshot: The folder to load before; None for the initial policy.
    """

    position: int
    snapshot: str | None


class Feed:
    """A log of commands with their answers; run as an asynchronous actor."""

    def __init__(self) -> None:
        self._commands: dict[int, Command] = {}
        # Of the commands without an answer. Answers are passed on and not kept: one may hold
        # a model's weights in the object store.
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._end = 0
        self._start = Start(0, None)
        self._grown = asyncio.Condition()
        self._controller: list[Any] = []

    async def submit(self, command: Command) -> Any:
        """Appends a command and waits for its answer (:class:`Stop` is not waited for)."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with self._grown:
            self._commands[self._end] = command
            self._open[self._end] = answer
            self._end += 1
            self._grown.notify_all()
        return None if isinstance(command, Stop) else await answer

    async def start(self) -> Start:
        """Where a worker that has just been started begins."""
        return self._start

    async def read(self, position: int) -> tuple[Command, bool]:
        """Waits for a command; tells whether it has been answered already."""
        async with self._grown:
            await self._grown.wait_for(lambda: position < self._end)
        return self._commands[position], position not in self._open

    async def commit(self, position: int, answer: Any) -> None:
        """Answers a command."""
        self._open.pop(position).set_result(answer)

    async def commit_snapshot(self, start: Start) -> None:
        """Makes later workers begin there; what came before is forgotten."""
        self._start = start
        for position in [p for p in self._commands if p < start.position]:
            del self._commands[position]

    async def announce_controller(self, controller: list[Any]) -> None:
        """Keeps a list with the handle of Ray Train's controller."""
        self._controller = controller

    async def controller(self) -> list[Any]:
        """That list; empty before the controller is there."""
        return self._controller
