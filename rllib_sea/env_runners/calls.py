"""Calls on env runners that survive the death of some."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_sea.duels.rounds import Failure
from rllib_sea.env_runners.duel_env_runner import DuelEnvRunner


class EnvRunnerCalls:
    """Makes calls on whichever env runners are there, or on the one in this process.

    Args:
        group: The env runners.
        timeout_s: How long a call may take, and no env runner be there (``sample_timeout_s``).
    """

    def __init__(self, group: EnvRunnerGroup, timeout_s: float) -> None:
        self._group = group
        self._timeout_s = timeout_s

    def call(self, method: str, calls: Sequence[dict[str, Any]]) -> list[Any]:
        """Makes each call on some healthy env runner; a dead runner's calls are redone.

        Args:
            method: A method of :class:`DuelEnvRunner`.
            calls: Keyword arguments, one dictionary per call.

        Returns:
            The results, in the order of ``calls``.

        Raises:
            RuntimeError: For a :class:`Failure`, if a runner does not answer in time, and if no
                runner comes back.
        """
        group, timeout_s = self._group, self._timeout_s
        if group.local_env_runner is not None:
            return [_checked(getattr(group.local_env_runner, method)(**call)) for call in calls]
        results: dict[int, Any] = {}
        lost_at: float | None = None
        while len(results) < len(calls):
            open_calls = [i for i in range(len(calls)) if i not in results]
            runners = group.healthy_env_runner_ids()
            if not runners:
                lost_at = time.monotonic() if lost_at is None else lost_at
                if time.monotonic() > lost_at + timeout_s:
                    raise RuntimeError(f"no env runner came back within {timeout_s} s")
                time.sleep(1.0)
                group.probe_unhealthy_env_runners()
                continue
            lost_at = None
            batch = list(zip(runners, open_calls, strict=False))
            answers = group.foreach_env_runner(
                [_numbered_call(method, i) for _, i in batch],
                kwargs=[calls[i] for _, i in batch],
                remote_worker_ids=[runner for runner, _ in batch],
                local_env_runner=False,
                timeout_seconds=timeout_s,
            )
            results |= {number: _checked(answer) for number, answer in answers}
            healthy = set(group.healthy_env_runner_ids())
            silent = [runner for runner, i in batch if i not in results and runner in healthy]
            if silent:
                raise RuntimeError(
                    f"env runner {silent[0]} did not answer `{method}` within {timeout_s:g} s "
                    "(sample_timeout_s)"
                )
        return [results[i] for i in range(len(calls))]


def _checked(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise RuntimeError(f"{answer.error}\n{answer.traceback}")
    return answer


def _numbered_call(method: str, number: int) -> Any:
    """A call whose answer says which call it answers: answers come without their runner."""

    def call(runner: DuelEnvRunner, **kwargs: Any) -> tuple[int, Any]:
        return number, getattr(runner, method)(**kwargs)

    return call
