from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import ray
import toy
from ray import cloudpickle
from ray.tune import register_trainable

from rllib_sea.cli.rllib import main


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def rllib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Runs the command in this process; checks that it leaves no Ray behind."""
    # The command sets these for itself.
    for name in (
        "RAY_AIR_NEW_OUTPUT",
        "RAY_CHDIR_TO_TRIAL_DIR",
        "TUNE_DISABLE_SIGINT_HANDLER",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING",
    ):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cloudpickle.register_pickle_by_value(toy)
    _register()
    handler = signal.getsignal(signal.SIGINT)

    def run(*arguments: object) -> Outcome:
        _register()
        monkeypatch.setattr("sys.argv", ["rllib", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGINT) is handler


def _register() -> None:
    """Tune forgets names when a cluster, such as an earlier command's, ends."""
    register_trainable("Toy", toy.Toy)
