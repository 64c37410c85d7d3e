"""Damaged checkpoints are named, and the furthest whole one is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_sea.checkpointing.manifest import (
    MANIFEST,
    DamagedCheckpointError,
    Progress,
    check_whole,
    damage,
    newest_whole_beside,
    progress_of,
    seal,
)


def checkpoint(folder: Path, number: int, iteration: int) -> Path:
    path = folder / f"checkpoint_{number:06d}"
    (path / "policy").mkdir(parents=True)
    (path / "policy" / "model.safetensors").write_bytes(bytes(range(100)) * iteration)
    (path / "state.pkl").write_bytes(b"state")
    seal(path, Progress(iteration, 2.5 * iteration))
    return path


def truncated(path: Path) -> None:
    os.truncate(path / "policy" / "model.safetensors", 50)


def flipped(path: Path) -> None:
    file = path / "policy" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[17] ^= 1
    file.write_bytes(content)


def without_a_file(path: Path) -> None:
    (path / "state.pkl").unlink()


def without_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def half_a_manifest(path: Path) -> None:
    os.truncate(path / MANIFEST, 40)


def gone(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (truncated, "policy/model.safetensors has 50 bytes, 300 were written"),
        (flipped, "policy/model.safetensors has other bytes than were written"),
        (without_a_file, "state.pkl is missing"),
        (without_manifest, "it has no manifest.json, which is written last"),
        (half_a_manifest, "manifest.json cannot be read"),
        (gone, "there is no such folder"),
    ],
)
def test_damage_is_found_and_named(
    harm: Callable[[Path], None], expected: str, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path, 1, 3)
    assert damage(path) is None
    harm(path)
    found = damage(path)
    assert found is not None
    assert found.startswith(expected)


def test_a_checkpoint_knows_how_far_the_run_was(tmp_path: Path) -> None:
    assert progress_of(checkpoint(tmp_path, 0, 7)) == Progress(7, 17.5)


def test_the_furthest_whole_one_is_offered(tmp_path: Path) -> None:
    first, second, third = (checkpoint(tmp_path, n, n + 1) for n in range(3))
    furthest = checkpoint(tmp_path, 9, 2)
    truncated(third)
    truncated(second)
    assert newest_whole_beside(third) == furthest
    with pytest.raises(DamagedCheckpointError) as caught:
        check_whole(third)
    message = str(caught.value)
    assert str(third) in message
    assert f"{furthest} is whole" in message
    assert "\n" not in message
    truncated(furthest)
    truncated(first)
    assert newest_whole_beside(third) is None
    with pytest.raises(DamagedCheckpointError, match="no other one beside it is whole"):
        check_whole(third)
