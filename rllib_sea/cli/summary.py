"""What a run's end says: results, where they lie, and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.progress import evaluation_rows, forecast_rows, trial_label
from rllib_sea.duels.run_files import SAMPLE_DUELS_FILE
from rllib_sea.durations import duration_text
from rllib_sea.report.page import REPORT_FILE

_ERROR_LINES = 4
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception|Interrupt|Exit)\b")


def print_summary(
    console: TextConsole, experiment: str, trials: Sequence[Trial], *, interrupted: bool
) -> None:
    """Prints a block per trial, and where the experiment's curves are.

    Args:
        console: Where to.
        experiment: Its name.
        trials: All of them.
        interrupted: Whether somebody stopped them.
    """
    for trial in trials:
        values = flatten_dict(trial.last_result or {}, delimiter="/")
        label = trial_label(experiment, trial, len(trials) == 1)
        console.say(f"\n{label}: {_outcome(trial, values, interrupted)}")
        for name, text in _rows(trial):
            console.say(f"  {name:<26} {text}")
        if trial.status == Trial.ERROR:
            for line in error_lines(trial):
                console.say(f"  {line}")
            console.say(f"  {'full error':<26} {Path(trial.path) / 'error.txt'}")
    if trials:
        folder = Path(trials[0].path).parent
        console.say(f"\nCurves: tensorboard --logdir {folder}")
        if len(trials) > 1 and (folder / REPORT_FILE).is_file():
            console.say(f"Report: {folder / REPORT_FILE}")


def error_lines(trial: Trial) -> list[str]:
    """The first lines of what a failed trial raised, without its traceback."""
    try:
        error = trial.get_pickled_error()
    except EOFError:  # the file was cut short, as on a full disk
        error = None
    cause = getattr(error, "cause", None)
    if cause is not None:
        lines = f"{type(cause).__name__}: {cause}".splitlines()
    else:
        # An actor that died tells why in a text that may hold a traceback: the exception's
        # own line, the last that names one, follows it.
        lines = str(error or trial.get_error() or "unknown error").splitlines()
        named = [i for i, line in enumerate(lines) if _EXCEPTION.match(line)]
        lines = lines[named[-1] :] if named else lines
    return [line for line in lines if line.strip()][:_ERROR_LINES]


def _outcome(trial: Trial, values: Mapping[str, Any], interrupted: bool) -> str:
    state = {Trial.ERROR: "failed", Trial.TERMINATED: "finished"}.get(trial.status, "unfinished")
    # Tune ends all trials of a run that is stopped in the same way.
    if interrupted and state == "finished" and not values.get("done"):
        state = "stopped"
    done = []
    if "num_oracle_queries" in values:
        done.append(f"{values['num_oracle_queries']} queries")
    # A result in which the oracle was away is no round.
    rounds = values.get("round", values.get("training_iteration"))
    if rounds is not None:
        done.append(f"{rounds} rounds")
    if "time_total_s" in values:
        done.append(duration_text(values["time_total_s"]))
    return f"{state}{' after ' if done else ''}{', '.join(done)}"


def _rows(trial: Trial) -> list[tuple[str, str]]:
    """What there is to say, each with its name."""
    evaluation = (trial.last_result or {}).get("evaluation", {})
    rows = evaluation_rows(evaluation) if "num_prompts" in evaluation else []
    rows += forecast_rows(flatten_dict(trial.last_result or {}, delimiter="/"))
    rows.append(("results", trial.path))
    for name, file in (("report", REPORT_FILE), ("sample duels", SAMPLE_DUELS_FILE)):
        if Path(trial.path, file).is_file():
            rows.append((name, str(Path(trial.path, file))))
    if trial.checkpoint:
        rows.append(("checkpoint", trial.checkpoint.path))
        policy = Path(trial.checkpoint.path) / "policy"
        if (policy / "config.json").is_file():
            rows.append(("policy", f"{policy} (transformers: from_pretrained)"))
    return rows
