"""Two methods prompt by prompt: the difference of their sampled win rates.

    python -m studies.language_models.paired METHOD OTHER
    python -m studies.language_models.paired METHOD OTHER --first 300

After each of OTHER's evaluations, against METHOD's with the nearest number of labels; and the mean
of all late ones; seed by seed. With `evaluation_samples` every prompt has as many sampled
responses, each against one of the initial policy's with the same random numbers. The interval is
over prompts: what another seed would change is not in it.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from studies.bandit.results import interval
from text_duel.errors import ConfigError

FILE = Path("docs/results/smollm2/runs/512_prompts.csv")
# By labels asked for until then, by prompt.
Rates = Mapping[int, Mapping[str, float]]


def prompts_file(curves: Path) -> Path:
    """Where the win rates of single prompts lie, beside the curves."""
    return curves.with_name(f"{curves.stem}_prompts.csv")


def win_rates(run: Path) -> Rates:
    """Mean win probability of each prompt's samples, by the labels asked for until then.

    Args:
        run: A folder with a ``responses.jsonl``; without samples there are none.
    """
    rates: dict[int, dict[str, float]] = {}
    for line in (run / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["samples"]:
            wins = [sample["win_vs_initial"] for sample in row["samples"]]
            rates.setdefault(row["num_oracle_queries"], {})[row["prompt_id"]] = float(np.mean(wins))
    return rates


def append_win_rates(file: Path, method: str, seed: int, rates: Rates) -> None:
    """Writes a run's evaluations, one a row, at the end of a file, which is made if missing.

    Args:
        file: Of :func:`prompts_file`. Its columns are the prompts of its first run.
        method: What was run.
        seed: Its seed.
        rates: Of :func:`win_rates`; if there are none, nothing is written.
    """
    if not rates:
        return
    prompts = sorted(next(iter(rates.values())))
    new = not file.exists()
    if not new:
        with file.open(newline="") as stream:
            prompts = next(csv.reader(stream))[3:]
    with file.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(["method", "seed", "queries", *prompts])
        for labels, by_prompt in rates.items():
            writer.writerow([method, seed, labels, *(f"{by_prompt[p]:.4f}" for p in prompts)])


def read_win_rates(file: Path) -> dict[str, dict[int, Rates]]:
    """What :func:`append_win_rates` wrote, by method and seed.

    Raises:
        ConfigError: There is no such file.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file (a tier with evaluation_samples writes it)")
    runs: dict[str, dict[int, dict[int, dict[str, float]]]] = {}
    with file.open(newline="") as stream:
        (_, _, _, *prompts), *rows = csv.reader(stream)
        for method, seed, labels, *values in rows:
            rates = runs.setdefault(method, {}).setdefault(int(seed), {})
            rates[int(labels)] = dict(zip(prompts, map(float, values), strict=True))
    return runs


def difference(
    run: Rates, other: Rates, of_run: Iterable[int], of_other: Iterable[int]
) -> tuple[float, float]:
    """The mean over prompts of the first less the second, and half of its 95% interval.

    Args:
        run: Win rates.
        other: Likewise, of the same prompts.
        of_run: The labels of its evaluations, which are averaged for each prompt.
        of_other: Likewise.
    """
    rows, others = [run[labels] for labels in of_run], [other[labels] for labels in of_other]
    differences = [
        np.mean([row[prompt] for row in rows]) - np.mean([row[prompt] for row in others])
        for prompt in rows[0]
    ]
    mean, low, _ = (float(values[0]) for values in interval(np.array(differences)[:, None]))
    return mean, mean - low


def comparisons(run: Rates, other: Rates, first: int) -> Iterator[str]:
    """A line for each of the other's evaluations, one for the average of the late ones.

    Args:
        run: Win rates.
        other: Likewise, of the same prompts.
        first: Labels from which on evaluations are averaged.
    """
    for labels in other:
        nearest = min(run, key=lambda at: abs(at - labels))
        mean, half = difference(run, other, [nearest], [labels])
        yield f"after {nearest} and {labels} labels: {mean:+.3f} +- {half:.3f}"
    late = [[labels for labels in rates if labels >= first] for rates in (run, other)]
    if all(late):
        mean, half = difference(run, other, *late)
        yield f"from {first} labels on: {mean:+.3f} +- {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method")
    parser.add_argument("other")
    parser.add_argument("--file", type=Path, default=FILE, help=f"({FILE})")
    parser.add_argument("--first", type=int, default=250, help="labels of the first averaged (250)")
    arguments = parser.parse_args()
    try:
        runs = read_win_rates(arguments.file)
        for name in (arguments.method, arguments.other):
            if name not in runs:
                known = "; ".join(runs)
                raise ConfigError(f"{name!r}: not in {arguments.file}, which has: {known}")
        method, other = runs[arguments.method], runs[arguments.other]
        seeds = sorted(method.keys() & other.keys())
        if not seeds:
            raise ConfigError(f"no seed in common: {sorted(method)} and {sorted(other)}")
    except ConfigError as error:
        parser.error(str(error))
    for seed in seeds:
        for line in comparisons(method[seed], other[seed], arguments.first):
            print(f"seed {seed}, {line}")


if __name__ == "__main__":
    main()
