"""The labeller as an actor: started beside the log, called again if its process dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.labelling.labeller import Labeller
from rllib_sea.labelling.labeller_settings import LabellerSettings

# How often the user is told of a wait that has begun.
POLL_S = 1.0
# Between a process that died and the one after it.
RESTART_POLL_S = 0.2
RESTART_S = 120.0


class LabellerHandle:
    """Calls the labeller's methods, whatever becomes of its process.

    Args:
        settings: See :class:`LabellerSettings`.
        num_gpus: Of the labeller, for an oracle that is a model.
        warn: Told of what the user should know, as soon as it is known.
        show: Told of waits in which nothing has failed, likewise.
    """

    def __init__(
        self,
        settings: LabellerSettings,
        num_gpus: float,
        warn: Callable[[str], None],
        show: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._max_deaths = settings.keys.oracle_retries
        self._warn = warn
        self._show = show
        # The log is a file on this machine. It takes no CPU of its own: it waits, or computes
        # while the other parts of a round wait for it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = (
            ray.remote(Labeller)
            .options(
                num_cpus=0,
                num_gpus=num_gpus,
                max_restarts=-1,
                max_concurrency=64,
                scheduling_strategy=here,
            )
            .remote(settings)
        )

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Calls a method of :class:`Labeller`.

        Raises:
            OracleAwayError: The oracle does not answer, or takes the labeller's process along.
            PreferenceLogError: The log cannot be written.
        """
        deaths = 0
        while True:
            try:
                return self._call(method, *arguments, **options)
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError as error:
                deaths += 1
                reason = f"the labeller's process died in `{method}`"
                if deaths > self._max_deaths:
                    raise OracleAwayError(reason) from error
                self._warn(f"{reason}; it is started again")
                self._wait_for_restart()

    def process_id(self) -> int:
        """The labeller's process, for fault tests."""
        return ray.get(self._actor.process_id.remote())

    def close(self) -> None:
        """Ends the actor; the log can have another writer then."""
        with suppress(Exception):  # it is ended in any case
            ray.get(self._actor.close.remote(), timeout=30.0)
        ray.kill(self._actor)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        reference = getattr(self._actor, method).remote(*arguments, **options)
        try:
            while not ray.wait([reference], timeout=POLL_S)[0]:
                self._pass_warnings_on()
            return ray.get(reference)
        finally:
            self._pass_warnings_on()

    def _pass_warnings_on(self) -> None:
        with suppress(RayActorError):  # the call itself says so
            for text in ray.get(self._actor.take_warnings.remote()):
                self._warn(text)
            for text in ray.get(self._actor.take_waits.remote()):
                self._show(text)

    def _wait_for_restart(self) -> None:
        end = time.monotonic() + RESTART_S
        while time.monotonic() < end:
            try:
                ray.get(self._actor.process_id.remote())
                return
            except RayActorError:
                time.sleep(RESTART_POLL_S)
