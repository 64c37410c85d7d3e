"""Memory that a process does not need any more."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def release_memory() -> None:
    """Gives what was freed back to the system; does nothing if the C library is not glibc.

    Glibc keeps freed blocks of some megabytes for later: gigabytes after an update or a sampling,
    while it is another process's turn to need them. Taking them again costs well below 1% of
    either. Garbage is not collected before: it takes a third of a second, and finds no tensor.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def discard(address: int, size: int) -> None:
    """Gives the pages of a buffer back to the system; its content is lost, and reads as zeros.

    Does nothing on other systems than Linux.

    Args:
        address: Where the buffer begins. Its memory must be the process's own, not a file's.
        size: Its bytes. Pages that it shares with others are kept.
    """
    if sys.platform == "linux":
        first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (address + size - first) // mmap.PAGESIZE * mmap.PAGESIZE
        if length > 0:
            madvise = ctypes.CDLL(None, use_errno=True).madvise
            madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            madvise(first, length, mmap.MADV_DONTNEED)


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Looks for no garbage meanwhile: for imports, which make a million objects that are none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
