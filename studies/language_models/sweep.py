"""Runs as trials of Tune; each leaves its curve when it is done."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from rllib_sea import SEA
from rllib_sea.cli.options import TrainOptions
from rllib_sea.cli.ray_session import ray_session
from studies.bandit.results import append_run
from studies.language_models.curves import CurveRecorder
from studies.language_models.paired import append_win_rates, prompts_file, win_rates
from studies.language_models.tier import Tier

STORAGE = Path("~/ray_results").expanduser()
LOGICAL_CPUS_PER_RUN = 2


@dataclass(frozen=True)
class Run:
    """One seed of one method.

    Attributes:
        method: Its name.
        seed: The seed.
        config: Its configuration.
    """

    method: str
    seed: int
    config: Mapping[str, Any] = field(hash=False)


class CurveWriter(Callback):
    """Writes a run's curve to a file when it has used its budget, its prompts to another.

    Args:
        file: The CSV file.
        runs: All that will be run, by the trial's name.
        win_rate: See :class:`studies.language_models.curves.CurveRecorder`.
    """

    def __init__(self, file: Path, runs: Mapping[str, Run], win_rate: str) -> None:
        self._file = file
        self._win_rate = win_rate
        self._runs = runs
        self._recorders: dict[str, CurveRecorder] = {}
        self._start = time.monotonic()
        self.written: list[str] = []

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        del iteration, trials, info
        name = str(trial)
        recorder = self._recorders.setdefault(name, CurveRecorder(self._win_rate))
        recorder.add(result)
        run = self._runs[name]
        if result["num_oracle_queries"] < run.config["query_budget"] or name in self.written:
            return
        rows = recorder.curve(run.config["query_budget"])
        append_run(self._file, run.method, run.seed, rows)
        if run.config.get("evaluation_samples"):
            rates = win_rates(Path(str(trial.path)))
            append_win_rates(prompts_file(self._file), run.method, run.seed, rates)
        self.written.append(name)
        passed = time.monotonic() - self._start
        left = passed / len(self.written) * (len(self._runs) - len(self.written)) / 60
        print(
            f"{len(self.written)}/{len(self._runs)} {name}: win rate {rows[-1]['win_rate']:.3f}, "
            f"{result['time_total_s']:.0f} s, about {left:.0f} min left",
            flush=True,
        )


def run_all(tier: Tier, runs: Sequence[Run], file: Path, storage: Path = STORAGE) -> list[str]:
    """Runs all; a run that fails does not stop the others.

    Args:
        tier: Whose runs they are.
        runs: What to run, in this order.
        file: Gets the curves.
        storage: Folder of Tune's results.

    Returns:
        The names of those that failed, each with where its error lies.
    """
    by_name = {f"{run.method}-{run.seed}": run for run in runs}
    # A name of their own for each would leave all but the first without Tune's log files.
    experiments = [
        tune.Experiment(
            tier.name,
            SEA,
            config=dict(run.config),
            storage_path=str(storage),
            trial_name_creator=lambda trial, name=name: name,
            trial_dirname_creator=lambda trial, name=name: f"{name}-{trial.trial_id}",
        )
        for name, run in by_name.items()
    ]
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    writer = CurveWriter(file, by_name, tier.win_rate)
    options = TrainOptions(ray_num_cpus=tier.at_once * LOGICAL_CPUS_PER_RUN)
    with ray_session(options, Console()):
        analysis = tune.run(
            experiments,
            max_concurrent_trials=tier.at_once,
            callbacks=[writer],
            verbose=0,
            raise_on_failed_trial=False,
        )
        # Where a trial's files lie is known only while Ray runs.
        return [
            f"{trial}: {trial.error_file or 'ended before its budget was used'}"
            for trial in analysis.trials
            if str(trial) not in writer.written
        ]
