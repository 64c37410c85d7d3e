"""What a search found: one table, one file of it, and a heat map of two of the searched keys."""

from __future__ import annotations

import csv
import importlib.util
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict
from rich.console import Console
from rich.table import Table

from rllib_sea.cli.experiments import Experiment
from rllib_sea.cli.search_space import Path as ConfigPath
from rllib_sea.cli.search_space import search_points

TABLE_FILE, PICTURE_FILE = "search.csv", "search.png"
# What trials are compared by where the scheduler does not say.
DEFAULT_METRIC = "evaluation/win_rate_vs_initial_soft"


@dataclass(frozen=True)
class SearchResult:
    """One trial of a search.

    Attributes:
        values: Of the searched keys, by name.
        metric: What trials are compared by, as last measured; None where it never was.
        num_oracle_queries: Labels used when the trial ended.
        rounds: Rounds likewise.
        status: Tune's word for how the trial ended.
    """

    values: Mapping[str, Any]
    metric: float | None
    num_oracle_queries: int
    rounds: int
    status: str


def report_search(console: Console, experiment: Experiment, trials: Sequence[Trial]) -> None:
    """Prints the trials of a search, best first, and writes the table and the picture.

    Args:
        console: Where to.
        experiment: The search; one without searched keys has no such report.
        trials: Its trials, at their end.
    """
    paths = [point.path for point in search_points(experiment.config)]
    if not paths or len(trials) < 2:
        return
    metric = experiment.scheduler_config.get("metric", DEFAULT_METRIC)
    sign = -1 if experiment.scheduler_config.get("mode") == "min" else 1
    results = [_result(trial, paths, metric) for trial in trials]
    results.sort(key=lambda r: (r.metric is None, -sign * (r.metric or 0.0)))
    console.print()
    console.print(search_table(experiment.name, metric, results))
    if "://" in experiment.storage_path:
        return
    folder = Path(experiment.storage_path) / experiment.name
    write_table(folder / TABLE_FILE, metric, results)
    lines = [f"Search: {folder / TABLE_FILE}"]
    names = [_name(path) for path in paths]
    if len(names) > 1:
        if all(result.metric is None for result in results):
            lines.append(f"Heat map: {metric} was never measured")
        elif importlib.util.find_spec("matplotlib") is None:
            lines.append('Heat map: it needs pip install "rllib-sea[results]"')
        else:
            draw_heat_map(folder / PICTURE_FILE, names[1], names[0], metric, results)
            lines.append(f"Heat map: {folder / PICTURE_FILE}")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _name(path: ConfigPath) -> str:
    return "/".join(map(str, path))


def _result(trial: Trial, paths: Sequence[ConfigPath], metric: str) -> SearchResult:
    values = {}
    for path in paths:
        value: Any = trial.config
        for key in path:
            value = value[key]
        values[_name(path)] = value
    last = flatten_dict(trial.last_result or {}, delimiter="/")
    # A result has an evaluation in some rounds only; Tune keeps the last value of each metric.
    analysis = trial.metric_analysis.get(metric, {})
    return SearchResult(
        values=values,
        metric=analysis.get("last"),
        num_oracle_queries=int(last.get("num_oracle_queries", 0)),
        rounds=int(last.get("training_iteration", 0)),
        status=str(trial.status).lower(),
    )


def search_table(name: str, metric: str, results: Sequence[SearchResult]) -> Table:
    """The trials as a table, a row each, in the given order."""
    table = Table(title=f"{name}: {len(results)} trials by {metric}")
    for key in results[0].values:
        table.add_column(key)
    for key in ("metric", "queries", "rounds"):
        table.add_column(key, justify="right")
    table.add_column("ended")
    for result in results:
        table.add_row(
            *map(str, result.values.values()),
            "never measured" if result.metric is None else f"{result.metric:.3f}",
            str(result.num_oracle_queries),
            str(result.rounds),
            result.status,
        )
    return table


def write_table(path: Path, metric: str, results: Sequence[SearchResult]) -> None:
    """Writes the same as CSV with all digits; searched keys are named as in Tune's data frames."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        searched = [f"config/{key}" for key in results[0].values]
        writer.writerow([*searched, metric, "num_oracle_queries", "rounds", "status"])
        for r in results:
            writer.writerow(
                [*r.values.values(), r.metric, r.num_oracle_queries, r.rounds, r.status]
            )


def draw_heat_map(path: Path, x: str, y: str, metric: str, results: Sequence[SearchResult]) -> None:
    """Draws the metric over two searched keys: the mean of the trials in each cell.

    A cell says how many trials it has, and how many queries they used where others used more.

    Args:
        path: The PNG.
        x: The key along the horizontal axis.
        y: The key along the vertical axis.
        metric: The metric's name.
        results: The trials; those never measured are left out.
    """
    from matplotlib.figure import Figure

    cells: dict[tuple[Any, Any], list[SearchResult]] = defaultdict(list)
    for result in results:
        if result.metric is not None:
            cells[str(result.values[x]), str(result.values[y])].append(result)
    most = max(result.num_oracle_queries for result in results)
    columns, rows = (_in_order([result.values[key] for result in results]) for key in (x, y))
    means = np.full((len(rows), len(columns)), np.nan)
    for (column, row), found in cells.items():
        means[rows.index(row), columns.index(column)] = _mean(found)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    figure = Figure(figsize=(2.2 + 1.1 * len(columns), 1.4 + 0.7 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(means, cmap="cividis", aspect="auto", origin="lower")
    for place, row in enumerate(rows):
        for across, column in enumerate(columns):
            found = cells.get((column, row), [])
            bright = not found or _mean(found) > middle  # an empty cell is white
            axes.text(
                across,
                place,
                cell_text(found, most),
                ha="center",
                va="center",
                color="black" if bright else "white",
            )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.colorbar(image, label=metric.rsplit("/", 1)[-1])
    figure.savefig(path, dpi=150)


def _mean(found: Sequence[SearchResult]) -> float:
    return fmean(result.metric for result in found if result.metric is not None)


def cell_text(found: Sequence[SearchResult], most: int) -> str:
    """What a cell of the heat map says.

    Args:
        found: Its trials, all of them measured.
        most: Queries of the trial that used most; a trial that was stopped early has fewer.
    """
    if not found:
        return "-"
    lines = [f"{_mean(found):.3f}"]
    if len(found) > 1:
        lines.append(f"{len(found)} trials")
    queries = sorted({result.num_oracle_queries for result in found})
    if queries[0] < most:
        lines.append(f"{' to '.join(map(str, dict.fromkeys((queries[0], queries[-1]))))} queries")
    return "\n".join(lines)


def _in_order(values: Sequence[Any]) -> list[str]:
    """Distinct values as text; numbers by size, others as they came."""
    try:
        values = sorted(values)
    except TypeError:
        values = list(values)
    return list(dict.fromkeys(map(str, values)))
