"""Room on the disk for Tune's last state."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_sea.cli.room import ROOM_BYTES, ROOM_FILE, Room
from text_duel.errors import ConfigError


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    return SimpleNamespace(folder=tmp_path / "tiny")


def test_room_is_taken_and_given_up_when_a_trial_fails(experiment: Any) -> None:
    room = Room(experiment)
    room.setup()
    assert (experiment.folder / ROOM_FILE).stat().st_blocks * 512 >= ROOM_BYTES
    room.on_trial_error()
    assert not (experiment.folder / ROOM_FILE).exists()
    room.on_experiment_end()


def test_a_disk_without_room_is_one_line(experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllib_sea.cli.room.ROOM_BYTES", 2**60)
    where = f"storage_path: {experiment.folder}"
    with pytest.raises(ConfigError, match=rf"^{where} has no room for .* MiB: "):
        Room(experiment).setup()
    assert not (experiment.folder / ROOM_FILE).exists()
