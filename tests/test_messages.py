"""What a run tells is heard in the middle of a round, and each line once."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_sea import messages
from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.progress import Progress
from rllib_sea.messages import Messages


class FakeTrial:
    trial_id = "a"
    storage: Any = SimpleNamespace(trial_dir_name="SEA_a")
    experiment_tag = "0"
    evaluated_params: dict[str, Any] = {}  # noqa: RUF012
    last_result: dict[str, Any] = {}  # noqa: RUF012

    def is_finished(self) -> bool:
        return False


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """In the place of Ray's."""
    kept: dict[str, str] = {}
    monkeypatch.setattr(messages, "_internal_kv_initialized", lambda: True)
    monkeypatch.setattr(messages, "_internal_kv_get", lambda key, namespace: kept.get(key))
    monkeypatch.setattr(
        messages, "_internal_kv_put", lambda key, value, namespace: kept.update({key: value})
    )
    return kept


@pytest.mark.parametrize("terminal", [False, True])
def test_a_wait_is_on_the_terminal_before_its_round_ends(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr("rllib_sea.cli.progress.LISTEN_S", 0.0)
    console = TextConsole(file=io.StringIO(), width=80, force_terminal=terminal)
    display, trial, run = (
        Progress("exp", {}, console, live=True),
        FakeTrial(),
        Messages(FakeTrial.storage),
    )

    def shown(text: str) -> int:
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().count(text)

    display.setup(total_num_samples=1)
    step: Any = lambda: display.on_step_begin(trials=[trial])  # noqa: E731
    step()
    run.show("waiting for oracle x")
    run.warn("nobody is there; asking again in 10 s")
    step()
    assert shown("exp: waiting for oracle x") == 1
    assert shown("exp: warning: nobody is there; asking again in 10 s") == 1
    step()
    run.warn("told after the command last looked")
    run.warn("nobody is there; asking again in 10 s")
    told = run.take()
    assert told == {
        "warnings": "nobody is there; asking again in 10 s\ntold after the command last looked"
    }
    display.on_trial_result(trial=trial, result={"training_iteration": 1} | told)
    step()
    assert shown("waiting for oracle x") == shown("nobody is there") == 1
    assert shown("told after the command last looked") == 1
    # The same once more, in the next round.
    run.warn("nobody is there; asking again in 10 s")
    step()
    display.on_trial_result(trial=trial, result={"training_iteration": 2} | run.take())
    assert shown("nobody is there") == 2
    display.on_experiment_end()


def test_without_ray_nothing_is_told_elsewhere() -> None:
    run = Messages(None)
    run.warn("alone")
    assert run.take() == {"warnings": "alone"}
    assert list(messages.told_since(None, 0)) == []
