"""Curves of runs, kept in CSV files, and what is read off them."""

from __future__ import annotations

import csv
import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

BASELINE = "passive"
# Chosen before any of the reported runs: the win rate that is 95% of the way from 0.5 to
# passive sampling's mean win rate at the last query.
TARGET_SHARE = 0.95
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Curves:
    """All seeds of one method.

    Attributes:
        queries: (G,) at which the columns were measured.
        seeds: (S,) sorted.
        columns: What was measured, by name, (S, G) each; ``win_rate`` is one of them.
    """

    queries: np.ndarray
    seeds: np.ndarray
    columns: Mapping[str, np.ndarray]

    def only(self, seeds: Iterable[int]) -> Curves:
        """The same of some of the seeds."""
        rows = np.isin(self.seeds, list(seeds))
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Curves(self.queries, self.seeds[rows], columns)


def append_run(file: Path, method: str, seed: int, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes a run's rows at the end of a file, which is made if it is missing.

    Args:
        file: The file.
        method: What was run.
        seed: Its seed.
        rows: At least one: ``queries`` and the columns. The file keeps those of its first run.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    header = ["method", "seed", "queries", *(name for name in rows[0] if name != "queries")]
    new = not file.exists()
    if not new:
        with file.open(newline="") as stream:
            header = next(csv.reader(stream))
    names = header[3:]
    with file.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(header)
        for row in rows:
            cells = [_cell(row[name]) for name in names]
            writer.writerow([method, seed, int(row["queries"]), *cells])


def _cell(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def read_runs(file: Path) -> dict[str, Curves]:
    """The curves of a file, by method in the order of their first run; none if it is missing."""
    if not file.exists():
        return {}
    runs: dict[str, dict[int, list[list[float]]]] = {}
    with file.open(newline="") as stream:
        header, *lines = csv.reader(stream)
        for method, seed, *cells in lines:
            numbers = [float(cell) if cell else np.nan for cell in cells]
            runs.setdefault(method, {}).setdefault(int(seed), []).append(numbers)
    curves = {}
    for method, by_seed in runs.items():
        seeds = sorted(by_seed)
        table = np.array([by_seed[seed] for seed in seeds])  # (S, G, 1 + columns)
        columns = {name: table[:, :, i + 1] for i, name in enumerate(header[3:])}
        curves[method] = Curves(table[0, :, 0], np.array(seeds), columns)
    return curves


def interpolate(grid: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A column (G,) at the queries of a grid, NaN before its first value.

    Args:
        grid: (G,) queries.
        at: (N,) queries at which it was measured, increasing.
        values: (N,); between those that are not NaN it is linear.
    """
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(grid), np.nan)
    return np.interp(grid, at[known], values[known], left=np.nan)


def queries_to(target: float, queries: np.ndarray, curve: np.ndarray) -> float:
    """Where a curve first reaches a value, linear between its points; infinite if it never does.

    Args:
        target: The value.
        queries: (G,) increasing.
        curve: (G,).
    """
    reached = np.nonzero(curve >= target)[0]
    if len(reached) == 0:
        return float("inf")
    i = int(reached[0])
    if i == 0:
        return float(queries[0])
    share = (target - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(queries[i - 1] + share * (queries[i] - queries[i - 1]))


@dataclass(frozen=True)
class Efficiency:
    """Queries that a method needs, and how many of passive's, or of a control's, that is.

    Attributes:
        queries: To the target.
        queries_interval: 95%, by bootstrap over seeds.
        ratio: To passive's or the control's; 0 if only the method reaches the target.
        ratio_interval: 95%.
        seeds: How many.
    """

    queries: float
    queries_interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    seeds: int


def efficiency(method: Curves, baseline: Curves, control: Curves | None = None) -> Efficiency:
    """Queries to the target, on mean win rates over the seeds that all have.

    Seeds are drawn anew with replacement, the same for all since they share their worlds;
    the target moves with the baseline's mean.

    Args:
        method: What is judged.
        baseline: What the target is read off.
        control: What the ratio is to, at the same target; without it, the baseline.
    """
    compared = (method, baseline, control or baseline)
    shared = functools.reduce(np.intersect1d, (curves.seeds for curves in compared))
    win_rates = [curves.only(shared).columns["win_rate"] for curves in compared]

    def read(rows: np.ndarray) -> tuple[float, float]:
        ours, base, others = (values[rows].mean(axis=0) for values in win_rates)
        target = 0.5 + TARGET_SHARE * (base[-1] - 0.5)
        needed = queries_to(target, method.queries, ours)
        if not np.isfinite(needed):
            return needed, needed
        return needed, needed / queries_to(target, compared[2].queries, others)

    queries, ratio = read(np.arange(len(shared)))
    rng = np.random.default_rng(0)
    resampled = np.array(
        [read(rng.integers(len(shared), size=len(shared))) for _ in range(NUM_RESAMPLES)]
    )
    # Some resamples may never reach the target: no interpolation between quantiles.
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0, method="inverted_cdf")
    return Efficiency(queries, (low[0], high[0]), ratio, (low[1], high[1]), len(shared))


def ratios_by_seed(
    method: Curves, baseline: Curves, control: Curves | None = None
) -> dict[int, float]:
    """Each seed by itself: queries to its own target, as a share of the baseline's or a control's.

    The target is that of :func:`efficiency` on the seed's own baseline.

    Args:
        method: What is judged.
        baseline: What the targets are read off.
        control: What the ratios are to; without it, the baseline.

    Returns:
        By seed, of those that all have; infinite where the method never reaches the target, 0
        where it alone does.
    """
    compared = (method, baseline, control or baseline)
    shared = functools.reduce(np.intersect1d, (curves.seeds for curves in compared))
    rows = zip(*(curves.only(shared).columns["win_rate"] for curves in compared), strict=True)
    ratios = {}
    for seed, (ours, base, others) in zip(shared.tolist(), rows, strict=True):
        target = 0.5 + TARGET_SHARE * (base[-1] - 0.5)
        needed = queries_to(target, method.queries, ours)
        reached = np.isfinite(needed)
        ratios[seed] = (
            needed / queries_to(target, compared[2].queries, others) if reached else needed
        )
    return ratios


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds and the ends of its 95% interval (Student's t), each (G,).

    Args:
        values: (S, G). Of one seed the ends are NaN: it says nothing of the others.
    """
    mean, num = values.mean(axis=0), len(values)
    if num < 2:
        nothing = np.full_like(mean, np.nan)
        return mean, nothing, nothing
    half = t.ppf(0.975, num - 1) * values.std(axis=0, ddof=1) / np.sqrt(num)
    return mean, mean - half, mean + half


def can_draw() -> bool:
    """Whether there is matplotlib, which pictures need and tables do not; says so if not."""
    found = importlib.util.find_spec("matplotlib") is not None
    if not found:
        print("no pictures: they need matplotlib (pip install matplotlib)")
    return found
