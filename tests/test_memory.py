"""Memory is given back where it is said to be."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from rllib_sea.memory import discard, release_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has malloc_trim and MADV_DONTNEED"
)
MIB = 2**20


def resident() -> int:
    """Bytes of this process that are in memory and no file's."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def test_what_is_discarded_is_zeros_and_takes_no_memory() -> None:
    buffer = torch.ones(64 * MIB, dtype=torch.uint8)
    before = resident()
    # Not whole pages: the first and the last are shared with others.
    discard(buffer.data_ptr() + 100, 64 * MIB - 200)
    assert before - resident() > 60 * MIB
    assert (buffer[:100] == 1).all()
    assert (buffer[-100:] == 1).all()
    assert buffer[8192:-8192].sum() == 0


def test_a_buffer_within_a_page_is_kept() -> None:
    buffer = torch.ones(100, dtype=torch.uint8)
    discard(buffer.data_ptr(), 100)
    assert buffer.sum() == 100


def test_freed_blocks_are_given_back() -> None:
    """Blocks that glibc would keep: smaller than what it maps by itself, below one that stays."""
    blocks = [torch.ones(100_000, dtype=torch.uint8) for _ in range(600)]
    kept = blocks[-1]
    held = resident()
    del blocks
    release_memory()
    assert held - resident() > 40 * MIB
    assert kept.sum() == 100_000
