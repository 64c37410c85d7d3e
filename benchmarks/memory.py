"""How much memory a run takes, all its processes together, at its peak.

    python benchmarks/memory.py                                   # what `make train` runs, 3 rounds
    python benchmarks/memory.py tuned_examples/passive_tldr.yaml --rounds 1

Starts `rllib train file RECIPE`, looks at all its processes once per second, and prints their
proportional set sizes (pages that n processes share count 1/n in each) at the moment when their
sum was largest. Ends the run after so many rounds. Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
RLLIB = Path(sys.executable).with_name("rllib")
INTERVAL_S = 1.0
KB = 1024

# What a process does, by the beginning of its title, and the column that it counts in.
PARTS = (
    ("ray::SEA", "trial (SEA, the ERM's learner)"),
    ("ray::DuelEnvRunner", "env runner (engine, encoder, ERM)"),
    ("ray::RayTrainWorker", "training worker (policy, reference, optimizer)"),
    ("ray::Labeller", "labeller (oracle, preference log)"),
    ("ray::", "Ray Train's and Ray's other actors"),
)


def proportional_set_size(process: psutil.Process) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * KB if found else 0


def part_of(process: psutil.Process, command: int) -> str:
    """The row of the table that a process belongs to."""
    if process.pid == command:
        return "command (rllib, Tune)"
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return "Ray's own processes"
    return next((row for start, row in PARTS if title.startswith(start)), "Ray's own processes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default=str(ROOT / "tuned_examples" / "sea_tldr.yaml"))
    parser.add_argument("--rounds", type=int, default=3, help="ends the run after so many")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(str(RLLIB), "train", "file", options.recipe, "--storage-path", folder),
            *("--stop", f"{{training_iteration: {options.rounds}}}"),
        ]
        # A session of its own, by which its processes are found whoever their parents are.
        run = subprocess.Popen(command, env=os.environ | {"COLUMNS": "200"}, start_new_session=True)
        os.nice(19)  # looking at gigabytes takes a moment, which the run should not wait for
        peak: dict[str, int] = {}
        try:
            while run.poll() is None:
                now: dict[str, int] = defaultdict(int)
                for process in psutil.Process(run.pid).children(recursive=True):
                    now[part_of(process, run.pid)] += proportional_set_size(process)
                now["command (rllib, Tune)"] += proportional_set_size(psutil.Process(run.pid))
                if sum(now.values()) > sum(peak.values()):
                    peak = dict(now)
                time.sleep(INTERVAL_S)
        except psutil.NoSuchProcess:
            pass
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGINT)
                run.wait()
    print(f"\n{'at the peak':<52} {'GiB':>6}")
    for part, size in sorted(peak.items(), key=lambda item: -item[1]):
        print(f"{part:<52} {size / 2**30:6.2f}")
    print(f"{'together':<52} {sum(peak.values()) / 2**30:6.2f}")


if __name__ == "__main__":
    main()
