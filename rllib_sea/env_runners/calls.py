"""Calls on env runners: dead ones are replaced, an absent oracle is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_sea.duels.rounds import Failure
from rllib_sea.env_runners.duel_env_runner import DuelEnvRunner

if TYPE_CHECKING:
    from rllib_sea.config import SEAConfig


class OracleAwayError(RuntimeError):
    """The oracle cannot answer; its questions stay in the preference log."""


class SilentRunnerError(RuntimeError):
    """An env runner did not answer in time; it was ended, and is started again."""


class EnvRunnerCalls:
    """Makes calls on whichever env runners are there.

    Args:
        group: The env runners.
        config: For how long to wait.
        warn: Told of every wait.
    """

    def __init__(
        self, group: EnvRunnerGroup, config: SEAConfig, warn: Callable[[str], None]
    ) -> None:
        self._group = group
        self._config = config
        self._warn = warn

    def ask_oracle(
        self,
        method: str,
        calls: Sequence[dict[str, Any]],
        timeout_s: float | None = None,
        on_result: Callable[[int, Any], None] | None = None,
    ) -> list[Any]:
        """Calls that ask the oracle: where it cannot answer, waits and asks again.

        A runner that is silent in such a call waits for the oracle. Args and result as for
        :meth:`call`.

        Raises:
            OracleAwayError: It did not answer in ``oracle_retries`` further attempts.
        """
        config = self._config
        results: dict[int, Any] = {}
        missing = list(range(len(calls)))

        def keep(number: int, result: Any) -> None:
            if on_result is not None:
                on_result(missing[number], result)
            results[missing[number]] = result

        for attempt in range(config.oracle_retries + 1):
            missing = [i for i in missing if i not in results]
            try:
                self.call(method, [calls[i] for i in missing], timeout_s, keep)
                break
            except (OracleAwayError, SilentRunnerError) as error:
                if attempt == config.oracle_retries:
                    raise OracleAwayError(str(error)) from error
                wait = config.oracle_retry_wait_s * 2**attempt
                self._warn(
                    f"{str(error).splitlines()[0]}; asking again in {wait:g} s "
                    f"({attempt + 1} of {config.oracle_retries})"
                )
                time.sleep(wait)
        return [results[i] for i in range(len(calls))]

    def call(
        self,
        method: str,
        calls: Sequence[dict[str, Any]],
        timeout_s: float | None = None,
        on_result: Callable[[int, Any], None] | None = None,
    ) -> list[Any]:
        """Makes each call on some healthy env runner; a dead runner's calls are redone.

        Args:
            method: A method of :class:`DuelEnvRunner`.
            calls: Keyword arguments, one dictionary a call.
            timeout_s: How long a call may take: ``oracle_timeout_s``; None: ``sample_timeout_s``.
            on_result: Called with a call's number and its result, as soon as it is there.

        Returns:
            The results, in the order of ``calls``.

        Raises:
            OracleAwayError: The oracle could not answer.
            SilentRunnerError: A runner did not answer in time.
            RuntimeError: For another :class:`Failure`, or where no runner comes back.
        """
        group = self._group
        key = "oracle_timeout_s"
        if timeout_s is None:
            key, timeout_s = "sample_timeout_s", self._config.sample_timeout_s
        results: dict[int, Any] = {}
        lost_at: float | None = None
        while len(results) < len(calls):
            open_calls = [i for i in range(len(calls)) if i not in results]
            runners = group.healthy_env_runner_ids()
            if not runners:
                lost_at = time.monotonic() if lost_at is None else lost_at
                if time.monotonic() > lost_at + self._config.sample_timeout_s:
                    raise RuntimeError(
                        f"no env runner came back within {self._config.sample_timeout_s} s"
                    )
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
            failures = []
            answered = set()
            for number, answer in answers:
                answered.add(number)
                if isinstance(answer, Failure):
                    failures.append(answer)
                    continue
                if on_result is not None:
                    on_result(number, answer)
                results[number] = answer
            for failure in failures:
                kind = OracleAwayError if failure.of_oracle else RuntimeError
                raise kind(f"{failure.error}\n{failure.traceback}")
            healthy = set(group.healthy_env_runner_ids())
            silent = [runner for runner, i in batch if i not in answered and runner in healthy]
            if silent:
                self._end(silent)
                raise SilentRunnerError(
                    f"env runner {silent[0]} did not answer `{method}` within {timeout_s:g} s "
                    f"({key})"
                )
        return [results[i] for i in range(len(calls))]

    def _end(self, runners: Sequence[int]) -> None:
        """Ends env runners that hang; RLlib starts them again."""
        actors = self._group._worker_manager.actors()
        for runner in runners:
            ray.kill(actors[runner], no_restart=False)


def _numbered_call(method: str, number: int) -> Any:
    """A call whose answer says which call it answers: answers come without their runner."""

    def call(runner: DuelEnvRunner, **kwargs: Any) -> tuple[int, Any]:
        return number, getattr(runner, method)(**kwargs)

    return call
