"""Tune's state before a run is resumed, and room for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_sea.cli.tune_state import ROOM_BYTES, ROOM_FILE, Room, check_state
from rllib_sea.preference_log.lock import WriterLock
from rllib_sea.preference_log.log import LOG_FILE
from text_duel.errors import ConfigError


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    (tmp_path / "tiny" / "SEA_1" / "checkpoint_000003").mkdir(parents=True)
    return SimpleNamespace(storage_path=str(tmp_path), name="tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tiny"


def write_state(folder: Path, time: str, **runner_data: Any) -> Path:
    file = folder / f"experiment_state-{time}.json"
    file.write_text(json.dumps({"trial_data": [["a"]], "runner_data": runner_data}))
    return file


def test_a_decision_to_stop_a_failed_trial_is_not_resumed(experiment: Any, folder: Path) -> None:
    old = write_state(folder, "2026-01-01", _cached_trial_decisions={"1": "STOP"})
    new = write_state(folder, "2026-01-02", _cached_trial_decisions={"1": "STOP"}, _resumed=True)
    before = old.read_text()
    check_state(experiment)
    assert old.read_text() == before
    assert json.loads(new.read_text()) == {
        "trial_data": [["a"]],
        "runner_data": {"_cached_trial_decisions": {}, "_resumed": True},
    }


def test_a_state_that_was_cut_short_is_one_line(experiment: Any, folder: Path) -> None:
    state = write_state(folder, "2026-01-02")
    os.truncate(state, 20)
    with pytest.raises(ConfigError, match="was cut short") as error:
        check_state(experiment)
    assert str(state) in str(error.value)
    assert f"--restore {folder / 'SEA_1' / 'checkpoint_000003'}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_still_runs_is_not_resumed(experiment: Any, folder: Path) -> None:
    write_state(folder, "2026-01-02")
    log = folder / "SEA_1" / LOG_FILE
    log.touch()
    check_state(experiment)
    lock = WriterLock(log)
    with pytest.raises(ConfigError, match=f"the run goes on: process {os.getpid()} writes to"):
        check_state(experiment)
    lock.release()
    check_state(experiment)


def test_room_is_taken_and_given_up_when_a_trial_fails(experiment: Any, folder: Path) -> None:
    room = Room(experiment)
    room.setup()
    assert (folder / ROOM_FILE).stat().st_blocks * 512 >= ROOM_BYTES
    room.on_trial_error(1, [], None)  # type: ignore[arg-type]
    assert not (folder / ROOM_FILE).exists()
    room.on_experiment_end([])


def test_a_disk_without_room_is_one_line(
    experiment: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rllib_sea.cli.tune_state.ROOM_BYTES", 2**60)
    with pytest.raises(ConfigError, match=rf"^storage_path: {folder} has no room for .* MiB: "):
        Room(experiment).setup()
    assert not (folder / ROOM_FILE).exists()
