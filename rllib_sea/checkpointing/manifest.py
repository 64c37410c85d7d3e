"""Whole checkpoints and damaged ones: what a checkpoint must hold is written down in it.

A process that dies, a full disk or a power cut may leave a checkpoint in part; a disk may return
other bytes than were written. Readers then fail in ways that do not name the file, or not at all.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
# Of a checkpoint's folder, as Tune names them.
FOLDERS = "checkpoint_*"
_CHUNK_BYTES = 1 << 24


class DamagedCheckpointError(RuntimeError):
    """A checkpoint is not what was written."""


@dataclass(frozen=True)
class Progress:
    """How far a run was when it wrote a checkpoint.

    Attributes:
        training_iteration: Tune's count of results.
        time_total_s: Seconds spent in rounds.
    """

    training_iteration: int
    time_total_s: float


def seal(folder: Path, progress: Progress) -> None:
    """Writes the sizes and checksums (CRC-32) of all files into ``manifest.json``.

    Args:
        folder: A checkpoint; nothing may be written to it afterwards.
        progress: How far the run is.
    """
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _checksum(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    written = {
        "training_iteration": progress.training_iteration,
        "time_total_s": progress.time_total_s,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(written, indent=1) + "\n")


def progress_of(folder: Path) -> Progress:
    """How far a run was, by a checkpoint that is whole."""
    written = _manifest(folder)
    return Progress(written["training_iteration"], written["time_total_s"])


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, with the file's name; None if it is whole.

    Every file is read: 0.3 s for the 1.6 GB of a 135M model from memory.
    """
    if not folder.is_dir():
        return "there is no such folder"
    try:
        files = _manifest(folder)["files"].items()
    except FileNotFoundError:
        return f"it has no {MANIFEST}, which is written last"
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    for name, (size, checksum) in files:
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                return f"{name} has {found} bytes, {size} were written"
            if _checksum(path) != checksum:
                return f"{name} has other bytes than were written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def check_whole(folder: Path) -> None:
    """Makes sure that a checkpoint is whole.

    Raises:
        DamagedCheckpointError: It is not; one line that names the file and, if there is one,
            the newest checkpoint beside it that is.
    """
    wrong = damage(folder)
    if wrong is None:
        return
    other = newest_whole_beside(folder)
    offered = "no other one beside it is whole" if other is None else f"{other} is whole"
    raise DamagedCheckpointError(f"checkpoint {folder} is damaged: {wrong}; {offered}")


def newest_whole_beside(damaged: Path) -> Path | None:
    """The checkpoint to go on from if another one of the same run is damaged.

    Returns:
        The furthest that is whole; None if none is.
    """
    others = [path for path in damaged.parent.glob(FOLDERS) if path != damaged]
    whole = [path for path in others if damage(path) is None]
    return max(whole, key=lambda path: progress_of(path).training_iteration, default=None)


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text())


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
