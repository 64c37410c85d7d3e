"""The bundled model, really converted, once for all tests here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rllib_sea.policy.models import BUNDLED_MODEL


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes converted at once, in a cache with a killed one's remains."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / BUNDLED_MODEL).mkdir()  # cut off: no mark in it
    (cache / BUNDLED_MODEL / "model.safetensors").write_bytes(b"half")
    (cache / "converting-killed").mkdir()
    code = (
        "from rllib_sea.policy.models import resolve_model\n"
        f"print(resolve_model({BUNDLED_MODEL!r}))"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLLIB_SEA_CACHE", str(cache))
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        try:
            outputs = [process.communicate(timeout=240)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    folders = {Path(output.splitlines()[-1]) for output in outputs}
    assert folders == {cache / BUNDLED_MODEL}
    assert all(process.returncode == 0 for process in processes)
    return folders.pop()
