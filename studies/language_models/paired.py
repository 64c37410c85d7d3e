"""Two runs against each other, prompt by prompt: the difference of their sampled win rates.

    python -m studies.language_models.paired RUN OTHER

Runs are folders with a `responses.jsonl`; with `evaluation_samples` every prompt has as many
sampled responses, each against one of the initial policy's with the same random numbers. The
interval is over prompts: what another seed would change is not in it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

Rates = dict[int, dict[str, float]]


def win_rates(run: Path) -> Rates:
    """Mean win probability of each prompt's samples, by the labels asked for until then."""
    rates: Rates = {}
    for line in (run / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["samples"]:
            wins = [sample["win_vs_initial"] for sample in row["samples"]]
            rates.setdefault(row["num_oracle_queries"], {})[row["prompt_id"]] = float(np.mean(wins))
    return rates


def difference(run: Rates, other: Rates, first: int) -> tuple[float, float]:
    """The mean over prompts of the first less the second, and half of its 95% interval.

    Args:
        run: Of :func:`win_rates`.
        other: Likewise, of the same prompts.
        first: Evaluations after fewer labels are left out; each prompt's others are averaged.
    """
    values = []
    for rates in (run, other):
        rows = [prompts for labels, prompts in rates.items() if labels >= first]
        values.append([np.mean([row[prompt] for row in rows]) for prompt in sorted(rows[0])])
    differences = np.subtract(*values)
    return float(differences.mean()), float(
        1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--first", type=int, default=250, help="labels of the first averaged (250)")
    arguments = parser.parse_args()
    run, other = win_rates(arguments.run), win_rates(arguments.other)
    end = min(max(run), max(other))
    for text, first in (
        ("at the end", end),
        (f"from {arguments.first} labels on", arguments.first),
    ):
        mean, half = difference(run, other, first)
        print(f"{text}: {mean:+.3f} +- {half:.3f}")


if __name__ == "__main__":
    main()
