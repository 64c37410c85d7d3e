"""The report of a run: `rllib-sea report`, and at the end of each run of `rllib train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rllib_sea.cli.console import TextConsole
from rllib_sea.report.page import REPORT_FILE, write_report
from rllib_sea.report.runs import is_run

if TYPE_CHECKING:  # the command itself needs no RLlib
    from ray.tune.experiment import Trial

    from rllib_sea.cli.experiments import Experiment


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="A run's folder; of an experiment or a search, all its trials."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=f"Write to this file. By default {REPORT_FILE} in the folder; of several folders, "
            "where you are.",
        ),
    ] = None,
) -> None:
    """Write a page to look at, of one run or of several side by side; also while they run."""
    if output is None:
        output = (runs[0] if len(runs) == 1 else Path()) / REPORT_FILE
    number = write_report(runs, output)
    typer.echo(f"{number} {'run' if number == 1 else 'runs'}: {output}")


def write_reports(console: TextConsole, experiment: Experiment, trials: Sequence[Trial]) -> None:
    """Writes the report of each trial of SEA into its folder, and of several into the experiment's.

    What goes wrong is said, and no reason to end otherwise than the run did: its results are there.
    """
    if not experiment.is_sea:
        return
    if experiment.folder is None:
        console.say("No report: the results are not on a local disk (rllib-sea report of a copy)")
        return
    folders = [Path(trial.path) for trial in trials if trial.path and is_run(Path(trial.path))]
    pages = [([folder], folder / REPORT_FILE) for folder in folders]
    if len(folders) > 1:
        pages.append((folders, experiment.folder / REPORT_FILE))
    for shown, page in pages:
        try:
            write_report(shown, page)
        except Exception as error:
            cause = " ".join(str(error).split())
            console.say(f"No report {page}: {type(error).__name__}: {cause}")
