"""`rllib train file` as a process of its own, to be killed with all that it started."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml

RLLIB = Path(sys.executable).with_name("rllib")
NAME = "tiny"
KEPT_CHECKPOINTS = 2
_LINK = re.compile(r"(\w+) labels at (\S+)")


class TrainCommand:
    """One `rllib train file` with its own Ray, in a folder; a context manager that ends it.

    Args:
        folder: Has the recipe, and gets the results and what is printed.
        options: Further options, such as ``--resume``.
        import_path: Folders that Ray's workers import an oracle from.
        num_cpus: What Ray is told to have.
        prefix: A command that runs this one.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        import_path: Sequence[Path] = (),
        *,
        num_cpus: int = 2,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.started = time.monotonic()
        self._output = folder / f"output-{len(list(folder.glob('output-*')))}.txt"
        # Short: Ray's sockets are in it.
        self._ray_folder = Path(tempfile.mkdtemp(prefix="kill"))
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        environment |= {
            "COLUMNS": "200",
            "RAY_TMPDIR": str(self._ray_folder),
            "PYTHONPATH": os.pathsep.join(map(str, import_path)),
        }
        arguments = ["train", "file", str(folder / f"{NAME}.yaml"), "--storage-path", str(folder)]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [*prefix, str(RLLIB), *arguments, "--ray-num-cpus", str(num_cpus), *options],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._ray_folder, ignore_errors=True)

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text()

    def wait_for(self, text: str, seconds: float) -> bool:
        """Waits until it has printed a text; returns False where it ended without.

        Raises:
            TimeoutError: It is still silent.
        """
        end = time.monotonic() + seconds
        while text not in self.output:
            if self._process.poll() is not None:
                return text in self.output
            if time.monotonic() > end:
                raise TimeoutError(f"no {text!r} in {seconds:g} s:\n{self.output}")
            time.sleep(0.02)
        return True

    def links(self, *raters: str) -> dict[str, str]:
        """Each rater's link, once the last one's is printed."""
        assert self.wait_for(f"{raters[-1]} labels at", 180.0), self.output
        found = dict(_LINK.findall(self.output))
        assert set(found) == set(raters)
        return found

    def wait(self, seconds: float) -> int:
        """Waits for its end; returns the exit status."""
        return self._process.wait(seconds)

    def left_over(self) -> list[psutil.Process]:
        """After its end: the processes of its Ray that do not end by themselves."""
        _, alive = psutil.wait_procs(self._of_session(), timeout=10)
        return alive

    def processes(self, title: str = "") -> list[psutil.Process]:
        """The processes that it started whose title, such as `ray::SEA`, begins so."""
        found = []
        for process in self._tree():
            try:
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @contextlib.contextmanager
    def paused(self, title: str) -> Iterator[None]:
        """Holds the processes whose title begins so."""
        held = self.processes(title)
        for process in held:
            _signal(process, signal.SIGSTOP)
        yield
        for process in held:
            _signal(process, signal.SIGCONT)

    def kill(self) -> list[psutil.Process]:
        """Kills it and all it started (SIGKILL), at one moment; returns those still there.

        All are stopped before the first is killed: none sees another die, and none is started
        that is not seen.
        """
        stopped: dict[int, psutil.Process] = {}
        while new := [p for p in self._tree() if p.pid not in stopped]:
            for process in new:
                stopped[process.pid] = process
                _signal(process, signal.SIGSTOP)
        for process in stopped.values():
            _signal(process, signal.SIGKILL)
        self._process.wait()
        _, alive = psutil.wait_procs(list(stopped.values()), timeout=30)
        return [*alive, *self._of_session()]

    def _tree(self) -> list[psutil.Process]:
        if self._process.poll() is not None:
            return self._of_session()
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _of_session(self) -> list[psutil.Process]:
        """Ray's own processes name their session's folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self._ray_folder) in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def write_recipe(
    folder: Path, policy: Path, oracle: str, oracle_config: Mapping[str, Any], **config: Any
) -> None:
    """Writes a recipe of rounds of 8 questions that are not measured; a checkpoint a round.

    Args:
        folder: Gets the file.
        policy: A tiny policy's.
        oracle: As ``module:Class``.
        oracle_config: Its arguments.
        config: Further keys.
    """
    settings = {
        "env_config": {
            "prompts": "tldr_mini",
            "oracle": oracle,
            "oracle_config": dict(oracle_config),
        },
        "policy_model": str(policy),
        "sampler": "transformers",
        "sampler_config": {"dtype": "float32"},
        "max_new_tokens": 12,
        "temperature": 1.0,
        "prompts_per_round": 8,
        "gamma": 1.0,
        "num_candidates": 4,
        "ensemble_size": 3,
        "train_precision": "fp32",
        "num_threads": 1,
        "measure_online_win_rate": False,
        "evaluation_num_prompts": 4,
        "evaluation_interval": 100,
        "seed": 3,
    }
    experiment = {
        "env": "text_duel/TLDR-v0",
        "run": "SEA",
        "config": settings | config,
        "checkpoint_config": {"checkpoint_frequency": 1, "num_to_keep": KEPT_CHECKPOINTS},
    }
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump({NAME: experiment}))
