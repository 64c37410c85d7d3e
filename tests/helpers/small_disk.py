"""A disk of a few megabytes that can really be full, without being root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self


class SmallDisk:
    """A file system in memory, in a namespace of its own; a context manager that ends it.

    Args:
        folder: Where it is mounted, for commands that are run with :attr:`prefix`.
        mebibytes: Its size.

    Raises:
        OSError: This machine allows no user namespaces.
    """

    def __init__(self, folder: Path, mebibytes: int) -> None:
        folder.mkdir()
        mount = f"mount -t tmpfs -o size={mebibytes}m none '{folder}' && echo done && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "done\n":
            self._holder.wait()
            raise OSError("no user namespaces")
        # The disk as it is seen from outside.
        self.path = Path(f"/proc/{self._holder.pid}/root{folder}")
        self.prefix = ["nsenter", "-t", str(self._holder.pid), "-U", "-m", "--preserve-credentials"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._holder.kill()
        self._holder.communicate()

    def run(self, *command: str) -> str:
        """What a command prints that sees the disk; it must succeed."""
        done = subprocess.run([*self.prefix, *command], capture_output=True, text=True, check=True)
        return done.stdout

    def fill(self) -> None:
        """Leaves no byte free."""
        free = os.statvfs(self.path)
        with (self.path / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)

    def make_room(self) -> None:
        """Undoes :meth:`fill`."""
        (self.path / "ballast").unlink()
