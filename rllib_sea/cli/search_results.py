"""What a search found: one table, one file of it, and a heat map of two of the searched keys."""

from __future__ import annotations

import csv
import importlib.util
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict
from rich.table import Table

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.experiments import Experiment
from rllib_sea.cli.search_space import search_points

TABLE_FILE, PICTURE_FILE = "search.csv", "search.png"
# What trials are compared by if the scheduler does not say.
DEFAULT_METRIC = "evaluation/win_rate_vs_initial_soft"
QUERIES = "num_oracle_queries"
# Of texts in a picture: a dollar in them begins no formula.
PLAIN: dict[str, Any] = {"parse_math": False}

# One trial of a search: searched keys as in Tune's data frames (`config/gamma`), the metric as last
# measured (None if it never was), labels and rounds used, and Tune's word for how it ended.
Row = Mapping[str, Any]


def report_search(console: TextConsole, experiment: Experiment, trials: Sequence[Trial]) -> None:
    """Writes the table and the picture of a search, then prints its trials, best first.

    Of an experiment without searched keys there is no such report.
    """
    keys = ["/".join(map(str, point.path)) for point in search_points(experiment.spec["config"])]
    if not keys or len(trials) < 2:
        return
    compared = experiment.spec["scheduler_config"]
    metric = compared.get("metric", DEFAULT_METRIC)
    sign = 1 if compared.get("mode") == "min" else -1
    rows = [_row(trial, keys, metric) for trial in trials]
    rows.sort(key=lambda row: (row[metric] is None, sign * (row[metric] or 0.0)))
    lines = [] if experiment.folder is None else _write(experiment.folder, keys, metric, rows)
    console.print()
    console.print(search_table(experiment.name, metric, rows))
    for line in lines:
        console.say(line)


def _write(folder: Path, keys: Sequence[str], metric: str, rows: Sequence[Row]) -> list[str]:
    """Writes the table and the picture; returns what to say about them."""
    write_table(folder / TABLE_FILE, rows)
    lines = [f"Search: {folder / TABLE_FILE}"]
    if len(keys) > 1:
        if all(row[metric] is None for row in rows):
            lines.append(f"Heat map: {metric} was never measured")
        elif importlib.util.find_spec("matplotlib") is None:
            lines.append('Heat map: it needs pip install "rllib-sea[results]"')
        else:
            draw_heat_map(folder / PICTURE_FILE, keys[1], keys[0], metric, rows)
            lines.append(f"Heat map: {folder / PICTURE_FILE}")
    return lines


def _row(trial: Trial, keys: Sequence[str], metric: str) -> Row:
    last = flatten_dict(trial.last_result or {}, delimiter="/")
    return {
        **{f"config/{key}": trial.evaluated_params[key] for key in keys},
        # A result has an evaluation in some rounds only; Tune keeps the last value of each metric.
        metric: trial.metric_analysis.get(metric, {}).get("last"),
        QUERIES: int(last.get(QUERIES, 0)),
        "rounds": int(last.get("training_iteration", 0)),
        "status": str(trial.status).lower(),
    }


def search_table(name: str, metric: str, rows: Sequence[Row]) -> Table:
    """The trials as a table, one row per trial, in the given order."""
    table = Table(title=f"{name}: {len(rows)} trials by {metric}")
    for key in rows[0]:
        table.add_column("metric" if key == metric else key.removeprefix("config/"))
    for row in rows:
        measured = "never measured" if row[metric] is None else f"{row[metric]:.3f}"
        table.add_row(*(measured if key == metric else str(row[key]) for key in row))
    return table


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Writes the same as CSV, with all digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_heat_map(path: Path, x: str, y: str, metric: str, rows: Sequence[Row]) -> None:
    """Draws the metric over two searched keys: the mean of the trials in each cell.

    A cell says how many trials it has, and how many queries they used if others used more.

    Args:
        path: The PNG.
        x: The searched key along the horizontal axis.
        y: The key along the vertical axis.
        metric: The metric's name.
        rows: The trials; those never measured are left out.
    """
    from matplotlib.figure import Figure

    most = max(row[QUERIES] for row in rows)
    across, up = (_in_order([row[f"config/{key}"] for row in rows]) for key in (x, y))
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row[metric] is not None:
            cells[str(row[f"config/{y}"]), str(row[f"config/{x}"])].append(row)
    means = np.array([[_mean(cells[line, column], metric) for column in across] for line in up])
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    figure = Figure(figsize=(2.2 + 1.1 * len(across), 1.4 + 0.7 * len(up)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(means, cmap="cividis", aspect="auto", origin="lower")
    for (line, column), mean in np.ndenumerate(means):
        text = cell_text(cells[up[line], across[column]], metric, most)
        # An empty cell is white.
        color = "white" if mean <= middle else "black"
        axes.text(column, line, text, ha="center", va="center", color=color, **PLAIN)
    axes.set_xticks(range(len(across)), across, **PLAIN)
    axes.set_yticks(range(len(up)), up, **PLAIN)
    axes.set_xlabel(x, **PLAIN)
    axes.set_ylabel(y, **PLAIN)
    figure.colorbar(image, label=metric.rsplit("/", 1)[-1])
    figure.savefig(path, dpi=150)


def _mean(found: Sequence[Row], metric: str) -> float:
    return fmean(row[metric] for row in found) if found else float("nan")


def cell_text(found: Sequence[Row], metric: str, most: int) -> str:
    """What a cell of the heat map says.

    Args:
        found: Its trials, all of them measured.
        metric: The metric's name.
        most: Queries of the trial that used most; a trial that was stopped early has fewer.
    """
    if not found:
        return "-"
    lines = [f"{_mean(found, metric):.3f}"]
    if len(found) > 1:
        lines.append(f"{len(found)} trials")
    queries = sorted({row[QUERIES] for row in found})
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
