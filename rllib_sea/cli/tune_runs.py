"""Runs checked experiments with Ray Tune."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import ray
from ray import tune
from ray.tune import ResumeConfig, SyncConfig
from ray.tune.experiment import Trial

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.experiments import Experiment
from rllib_sea.cli.loggers import logger_callbacks
from rllib_sea.cli.options import TrainOptions
from rllib_sea.cli.progress import Progress
from rllib_sea.cli.ray_session import check_ray_options, ray_session
from rllib_sea.cli.report import write_reports
from rllib_sea.cli.results_files import ResultsOnce, WholeTable
from rllib_sea.cli.resume import check_resumable, forget_decisions, has_run
from rllib_sea.cli.room import Room
from rllib_sea.cli.search_results import report_search
from rllib_sea.cli.search_space import num_grid_variants, to_tune
from rllib_sea.cli.summary import print_summary
from text_duel.errors import ConfigError

# Exit statuses.
DONE, FAILED, INTERRUPTED = 0, 1, 130
# Keys of an experiment that are Tune's own.
_AS_WRITTEN = ("stop", "num_samples", "storage_path", "restore")


def run_experiments(experiments: Sequence[Experiment], options: TrainOptions) -> int:
    """Runs experiments one after another, the trials of each side by side if they fit.

    Args:
        experiments: One or more.
        options: How to run and show them.

    Returns:
        The command's exit status.

    Raises:
        ConfigError: Before anything starts, or if a trial does not fit the cluster.
    """
    check_ray_options(options)
    console = TextConsole()
    # Tune starts anew, without a word, if there is nothing to resume. Of a file's
    # experiments, those whose turn had not come do start; one at least must be there.
    resumed = [experiment for experiment in experiments if options.resume and has_run(experiment)]
    if options.resume and not resumed:
        where = experiments[0].spec["storage_path"]
        raise ConfigError(f"--resume: no earlier run in {where}/{experiments[0].name}")
    for experiment in resumed:
        check_resumable(experiment, console)
    # Tune would end a run if the scheduler's metric is missing from a result: win rates
    # are, in rounds without an evaluation.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Its newer output prints a table even if it is told to be silent.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "1" if options.verbosity else "0"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    status = DONE
    with ray_session(options, console), _interruptible(console) as interrupted:
        limits = [max_concurrent_trials(e, ray.cluster_resources()) for e in experiments]
        for experiment, limit in zip(experiments, limits, strict=True):
            trials = _run(experiment, limit, experiment in resumed, options, console)
            write_reports(console, experiment, trials)
            print_summary(console, experiment.name, trials, interrupted=bool(interrupted))
            report_search(console, experiment, trials)
            if any(trial.status == Trial.ERROR for trial in trials):
                status = FAILED
            if interrupted:
                console.say("Interrupted: --resume continues from the last checkpoint")
                return INTERRUPTED
    return status


def max_concurrent_trials(experiment: Experiment, resources: Mapping[str, float]) -> int | None:
    """How many trials may run at once.

    The Ray Train workers of a SEA trial stand outside of what Tune counts: two trials that
    Tune takes for small could wait for each other's workers for ever.

    Args:
        experiment: The experiment.
        resources: Of the whole cluster.

    Returns:
        The number; None leaves it to Tune.

    Raises:
        ConfigError: Not even one fits, or fewer than the experiment asks for.
    """
    limit = wanted = experiment.spec["max_concurrent_trials"]
    for kind, needed in (("CPU", experiment.cpus), ("GPU", experiment.gpus)):
        if not needed:
            continue
        there = resources.get(kind, 0.0)
        fitting = math.floor(there / needed + 1e-9)
        if fitting < 1:
            raise ConfigError(
                f"{experiment.name}: one trial needs {needed:g} {kind}s (algorithm, env runners, "
                f"learners and training workers), the cluster has {there:g}"
            )
        if wanted is not None and fitting < wanted:
            raise ConfigError(
                f"{experiment.name}: max_concurrent_trials {wanted}: one trial needs {needed:g} "
                f"{kind}s, the cluster has {there:g}: {fitting} fits at once"
            )
        limit = fitting if limit is None else min(limit, fitting)
    return limit


def _run(
    experiment: Experiment,
    limit: int | None,
    resume: bool,
    options: TrainOptions,
    console: TextConsole,
) -> list[Trial]:
    spec = experiment.spec
    num_trials = spec["num_samples"] * num_grid_variants(spec["config"])
    if num_trials > 1:
        at_once = "" if limit is None else f", at most {limit} at once"
        console.say(f"{experiment.name}: {num_trials} trials{at_once}")
    if resume:
        forget_decisions(experiment.scheduler)
    analysis = tune.run(
        spec["run"],
        name=experiment.name,
        config=to_tune(spec["config"]),
        checkpoint_config=experiment.checkpoint,
        scheduler=experiment.scheduler,
        max_concurrent_trials=limit,
        **{key: spec[key] for key in _AS_WRITTEN},
        resume_config=ResumeConfig(errored=ResumeConfig.ResumeType.RESUME) if resume else None,
        # Sample duels are small and made to be read during a run.
        sync_config=SyncConfig(sync_artifacts=True, sync_period=10),
        trial_name_creator=_trial_name,
        callbacks=[
            Progress(experiment.name, spec["stop"], console, live=options.verbosity == 0),
            Room(experiment),
            ResultsOnce(),
            WholeTable(),
            *logger_callbacks(experiment, console),
        ],
        verbose=options.verbosity,
        raise_on_failed_trial=False,
    )
    return analysis.trials


@contextmanager
def _interruptible(console: TextConsole) -> Iterator[list[int]]:
    """Ends a run in order at the first Ctrl-C (or SIGTERM), at once at the second.

    Yields:
        The signals that came.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if came or signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            raise KeyboardInterrupt
        came.append(number)
        console.say("Stopping; once more to stop at once")
        # Tune saves the run's state and ends it on this signal, but does not say that it did.
        signal.raise_signal(signal.SIGUSR1)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _trial_name(trial: Trial) -> str:
    return f"{trial.trainable_name}_{trial.trial_id}"
