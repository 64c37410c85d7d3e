"""The bundled model, really converted, once for all tests here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from rllib_sea.policy.models import BUNDLED_MODEL


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes converted at once, in a cache with a killed one's remains."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # all workers', whose files of tests this is for
    cache = root / "cache"
    with FileLock(f"{cache}.lock"):
        if not cache.exists():
            _convert_twice_at_once(cache)
    return cache / BUNDLED_MODEL


def _convert_twice_at_once(cache: Path) -> None:
    (cache / BUNDLED_MODEL).mkdir(parents=True)  # cut off: no mark in it
    (cache / BUNDLED_MODEL / "model.safetensors").write_bytes(b"half")
    (cache / "converting-killed").mkdir()
    code = (
        "from rllib_sea.policy.models import resolve_model\n"
        f"print(resolve_model({BUNDLED_MODEL!r}))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"RLLIB_SEA_CACHE": str(cache)},
        )
        for _ in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert {Path(output.splitlines()[-1]) for output in outputs} == {cache / BUNDLED_MODEL}
    assert all(process.returncode == 0 for process in processes)
