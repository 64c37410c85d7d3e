"""Kills runs at random moments, resumes them, and counts what the labeller was asked.

    python benchmarks/durability.py --runs 20
    python benchmarks/durability.py --runs 0 --model bundled

Each run is `rllib train file` with a tiny random model. At a moment that the seed determines, its
env runner, its Ray Train worker or all its processes at once get SIGKILL; if the command ends,
it is started again with `--resume`, to the end of the budget. Then the oracle's own record of what
it answered is compared with the preference log. Last, with a model that may be chosen, one run is
killed and resumed against the clock, and rounds without a fault are timed: what the log costs, what
a checkpoint takes. Timings need a quiet machine, counts do not.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray
import yaml

import text_duel
from rllib_sea import SEAConfig
from rllib_sea.cli.yaml_files import read_yaml
from rllib_sea.preference_log.log import LOG_FILE, PreferenceReader
from text_duel import Oracle, Prompt

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path.insert(0, str(TESTS))
from killed_runs import KEPT_CHECKPOINTS, NAME, TrainCommand, write_recipe  # noqa: E402
from tiny_models import make_tiny_policy  # noqa: E402

RUNNER, WORKER, ALL = "env runner", "training worker", "all processes"
# The title of the process that is killed.
TITLES = {RUNNER: "ray::DuelEnvRunner", WORKER: "ray::RayTrainWorker"}
BUDGET, ROUNDS = 44, 6
START_S, END_S = 300.0, 600.0
TIMED_ROUNDS = 5


class RecordingOracle(Oracle):
    """Thinks, answers, and keeps a record of every answer that no fault can lose.

    Args:
        folder: ``answered`` there gets a line per question, in one write per call.
        seconds: How long it thinks about a call.
    """

    name = "recording"

    def __init__(self, folder: str, seconds: float) -> None:
        self._file = Path(folder) / "answered"
        self._seconds = seconds

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        time.sleep(self._seconds)
        rows = zip(prompts, first, second, strict=True)
        lines = "".join(f"{prompt.id} {a!r} {b!r}\n" for prompt, a, b in rows)
        file = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, lines.encode())
        os.close(file)
        return np.array([0.9 if a < b else 0.1 for a, b in zip(first, second, strict=True)])


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        fault: What was killed.
        moment: When, for the reader.
        finished: Whether it came to the end of its budget.
        lost: Answers of the oracle that are not in the log.
        twice: Questions that it answered more than once.
        in_flight: Those of ``twice`` that had no answer in the log at the kill.
        exact: Whether log, last result and budget have one count.
        seconds: From the kill, or the command with ``--resume``, to the next new round.
        checkpoints: How many are left on the disk.
        left_over: Processes that outlived the command.
    """

    fault: str
    moment: str
    finished: bool
    lost: int
    twice: int
    in_flight: int
    exact: bool
    seconds: float
    checkpoints: int
    left_over: int


# -- Killed runs ----------------------------------------------------------------------


def killed_run(folder: Path, policy: Path, fault: str, rng: random.Random) -> Outcome:
    """One run with one fault, to its end."""
    write_recipe(
        folder,
        policy,
        "durability:RecordingOracle",
        {"folder": str(folder), "seconds": 0.3},
        query_budget=BUDGET,
        gamma=1.0,
    )
    # The training worker is surely there after the first round.
    after, fraction = rng.randrange(fault == WORKER, ROUNDS - 1), rng.random()
    imports = [HERE, TESTS]
    with TrainCommand(folder, import_path=imports) as command:
        begun = time.monotonic()
        for line in ["engines are up", *(f" round {i + 1}, " for i in range(after))]:
            command.wait_for(line, START_S)
            seconds, begun = time.monotonic() - begun, time.monotonic()
        # Over the time of a round; the first, and the engines' start, are longer than the others.
        delay = fraction * min(seconds, 4.0)
        time.sleep(delay)
        victims = command.processes(TITLES.get(fault, ""))
        moment = f"{delay:.2f} s after round {after}"
        left_over = 0
        killed = time.monotonic()
        if fault == ALL:
            left_over = len(command.kill())
        else:
            for process in victims:
                process.kill()
        given = _answers(folder)
        last = command.output.count(": round ")
        status = None
        if fault != ALL:
            command.wait_for(f" round {last + 1}, ", START_S)
            seconds = time.monotonic() - killed
            status = command.wait(END_S)
            left_over = len(command.left_over())
        if not victims:
            moment += " (nothing to kill)"
    if status != 0:
        with TrainCommand(folder, ["--resume"], import_path=imports) as command:
            # Rounds up to the last one may be done again, with answers from the log.
            command.wait_for(f" round {last + 1}, ", START_S)
            seconds = time.monotonic() - command.started
            status = command.wait(END_S)
            left_over += len(command.left_over())
    return _outcome(folder, fault, moment, status, given, seconds, left_over, command.output)


def _answers(folder: Path) -> set[str]:
    """The questions that have an answer in the log."""
    logs = list((folder / NAME).glob(f"SEA_*/{LOG_FILE}"))
    if not logs:
        return set()
    with PreferenceReader(logs[0]) as log:
        return {
            f"{e.question.prompt_id} {e.question.first.text!r} {e.question.second.text!r}"
            for e in log.read()
            if e.verdicts
        }


def _outcome(
    folder: Path,
    fault: str,
    moment: str,
    status: int | None,
    given: set[str],
    seconds: float,
    left_over: int,
    output: str,
) -> Outcome:
    training = {prompt.id for prompt in text_duel.load_prompts("tldr_mini")}
    lines = (folder / "answered").read_text().splitlines()
    times = Counter(line for line in lines if line.split()[0] in training)
    (trial,) = (folder / NAME).glob("SEA_*")
    with PreferenceReader(trial / LOG_FILE) as log:
        counts = {log.num_answered(), log.num_questions(), BUDGET}
    twice = {question for question, number in times.items() if number > 1}
    return Outcome(
        fault=fault,
        moment=moment,
        finished=status == 0,
        lost=len(set(times) - _answers(folder)),
        twice=len(twice),
        in_flight=len(twice - given),
        exact=counts == {BUDGET} and f"finished after {BUDGET} queries" in output,
        seconds=seconds,
        checkpoints=len(list(trial.glob("checkpoint_*"))),
        left_over=left_over,
    )


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """The table, a row per kind of fault."""
    print(
        "| killed | runs | finished | answers lost | asked twice (in flight) | count exact "
        "| s to the next round, median (longest) |\n|---|---|---|---|---|---|---|"
    )
    for fault in (RUNNER, WORKER, ALL):
        rows = [outcome for outcome in outcomes if outcome.fault == fault]
        if rows:
            seconds = [row.seconds for row in rows]
            print(
                f"| {fault} | {len(rows)} | {sum(row.finished for row in rows)} "
                f"| {sum(row.lost for row in rows)} "
                f"| {sum(row.twice for row in rows)} ({sum(row.in_flight for row in rows)}) "
                f"| {sum(row.exact for row in rows)} "
                f"| {median(seconds):.0f} ({max(seconds):.0f}) |"
            )
    print(
        f"\ncheckpoints left on the disk: at most {max(o.checkpoints for o in outcomes)} "
        f"(kept: {KEPT_CHECKPOINTS}); processes left over: {sum(o.left_over for o in outcomes)}"
    )


# -- What it costs --------------------------------------------------------------------


def costs(config: SEAConfig, folder: Path) -> dict[str, list[float]]:
    """Times rounds of a run: the round, the log's part of it, a checkpoint.

    Returns:
        Seconds of each of the rounds after the first; a checkpoint's ``megabytes``.
    """
    logged, depth = 0.0, 0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*args: Any) -> Any:
            nonlocal logged, depth
            start = time.perf_counter()
            depth += 1
            try:
                return call(*args)
            finally:
                depth -= 1
                if depth == 0:  # `ask` calls `round`
                    logged += time.perf_counter() - start

        return timed_call

    values: dict[str, list[float]] = {"round": [], "log": [], "checkpoint": [], "megabytes": []}
    algorithm = config.build_algo()
    try:
        # All that a round asks of its labeller; the oracle's own time is nearly nothing.
        labeller = algorithm.labelling.labeller
        labeller.call = timed(labeller.call)
        algorithm.train()
        for i in range(TIMED_ROUNDS):
            logged = 0.0
            values["round"].append(algorithm.train()["seconds"]["round"])
            values["log"].append(logged)
            start = time.perf_counter()
            path = Path(algorithm.save_to_path(folder / f"checkpoint{i}"))
            values["checkpoint"].append(time.perf_counter() - start)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            values["megabytes"].append(size / 1e6)
            shutil.rmtree(path)
    finally:
        algorithm.stop()
        shutil.rmtree(algorithm.logdir, ignore_errors=True)
    return values


def timed_recipe(model: str, folder: Path) -> dict[str, Any]:
    """Writes a recipe without evaluations and with a checkpoint per round, and returns it.

    It is that of `sea_tldr.yaml` for the bundled model, that of the killed runs for the tiny one.
    """
    file = folder / f"{NAME}.yaml"
    write_recipe(folder, make_tiny_policy(folder / "policy"), "length", {})
    recipe = read_yaml(file)[NAME]
    if model == "bundled":
        bundled = read_yaml(HERE.parent / "tuned_examples" / "sea_tldr.yaml")["sea-tldr"]
        recipe = bundled | {"checkpoint_config": recipe["checkpoint_config"]}
    recipe["config"] |= {"query_budget": 10_000, "evaluation_interval": 1000}
    file.write_text(yaml.safe_dump({NAME: recipe}))
    return recipe


def resume_seconds(folder: Path) -> tuple[float, float]:
    """Kills a run of the folder's recipe in its fourth round and resumes it.

    Returns:
        Seconds from the command with `--resume` until its engines are up, and until its first
        round is done, which Ray's start, the checkpoint's reading and one round are part of.
    """
    with TrainCommand(folder) as command:
        command.wait_for(" round 3, ", END_S)
        time.sleep(1.0)
        command.kill()
    with TrainCommand(folder, ["--resume"]) as command:
        seconds = []
        for line in ("engines are up", ": round "):
            command.wait_for(line, START_S)
            seconds.append(time.monotonic() - command.started)
        print(command.output, file=sys.stderr)
    return seconds[0], seconds[1]


def print_costs(model: str, resumed: tuple[float, float], values: dict[str, list[float]]) -> None:
    """How long the resumed run took, and medians of the timed rounds."""
    middle = {name: median(numbers) for name, numbers in values.items()}
    print(
        f"\n{model} model, resumed after a kill: engines up after {resumed[0]:.1f} s, the first "
        f"round done after {resumed[1]:.1f} s"
    )
    print(
        f"{model} model, median of {TIMED_ROUNDS} rounds after the first: "
        f"round {middle['round']:.2f} s, of it the log {middle['log'] * 1000:.1f} ms "
        f"({middle['log'] / middle['round']:.2%}); "
        f"checkpoint {middle['checkpoint']:.2f} s (longest {max(values['checkpoint']):.2f} s), "
        f"{middle['megabytes']:.0f} MB"
    )


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and faults")
    parser.add_argument(
        "--model", choices=("tiny", "bundled"), default="tiny", help="whose rounds are timed"
    )
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print(f"{os.cpu_count()} cores, {platform.machine()}, ray {ray.__version__}\n")
    outcomes: list[Outcome] = []
    for number in range(options.runs):
        fault = (RUNNER, WORKER, ALL)[number % 3]
        with tempfile.TemporaryDirectory() as folder:
            policy = make_tiny_policy(Path(folder) / "policy")
            outcomes.append(killed_run(Path(folder), policy, fault, rng))
        print(f"{number + 1}/{options.runs}: {outcomes[-1]}", file=sys.stderr, flush=True)
    if outcomes:
        print_outcomes(outcomes)
    with tempfile.TemporaryDirectory() as folder:
        recipe = timed_recipe(options.model, Path(folder))
        resumed = resume_seconds(Path(folder))
        ray.init(include_dashboard=False, log_to_driver=False)
        try:
            config = SEAConfig.from_user_dict(recipe["config"], recipe["env"])
            print_costs(options.model, resumed, costs(config, Path(folder)))
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
