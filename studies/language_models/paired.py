"""Two runs against each other, prompt by prompt: the difference of their sampled win rates.

    python -m studies.language_models.paired RUN OTHER

After each of OTHER's evaluations, against RUN's with the nearest number of labels; and the mean
of all late ones. Runs are folders with a `responses.jsonl`; with `evaluation_samples` every prompt
has as many sampled responses, each against one of the initial policy's with the same random
numbers. The interval is over prompts: what another seed would change is not in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from text_duel.errors import ConfigError

Rates = dict[int, dict[str, float]]


def win_rates(run: Path) -> Rates:
    """Mean win probability of each prompt's samples, by the labels asked for until then.

    Raises:
        ConfigError: The folder has no sampled responses.
    """
    file = run / "responses.jsonl"
    rates: Rates = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        row = json.loads(line)
        if row["samples"]:
            wins = [sample["win_vs_initial"] for sample in row["samples"]]
            rates.setdefault(row["num_oracle_queries"], {})[row["prompt_id"]] = float(np.mean(wins))
    if not rates:
        raise ConfigError(f"{file}: no sampled responses (expected a run with evaluation_samples)")
    return rates


def difference(
    run: Rates, other: Rates, of_run: Iterable[int], of_other: Iterable[int]
) -> tuple[float, float]:
    """The mean over prompts of the first less the second, and half of its 95% interval.

    Args:
        run: Of :func:`win_rates`.
        other: Likewise, of the same prompts.
        of_run: The labels of its evaluations, which are averaged for each prompt.
        of_other: Likewise.
    """
    rows, others = [run[labels] for labels in of_run], [other[labels] for labels in of_other]
    differences = [
        np.mean([row[prompt] for row in rows]) - np.mean([row[prompt] for row in others])
        for prompt in rows[0]
    ]
    half = 1.96 * np.std(differences, ddof=1) / np.sqrt(len(differences))
    return float(np.mean(differences)), float(half)


def comparisons(run: Rates, other: Rates, first: int) -> Iterator[str]:
    """A line for each of the other's evaluations, one for the average of the late ones.

    Args:
        run: Of :func:`win_rates`.
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
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--first", type=int, default=250, help="labels of the first averaged (250)")
    arguments = parser.parse_args()
    try:
        run, other = win_rates(arguments.run), win_rates(arguments.other)
    except ConfigError as error:
        parser.error(str(error))
    for line in comparisons(run, other, arguments.first):
        print(line)


if __name__ == "__main__":
    main()
