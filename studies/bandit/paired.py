"""Two methods seed by seed, which share their worlds: the difference of their win rates.

    python -m studies.bandit.paired METHOD OTHER
    python -m studies.bandit.paired METHOD OTHER --at 1600 3200
    python -m studies.bandit.paired METHOD OTHER --results docs/results/tiny_lm

Of all the curves in the folder's `runs/*.csv`, over the seeds that both have; the interval is
Student's t over seeds.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from studies.bandit.results import Curves, interval, read_runs
from text_duel.errors import ConfigError

RESULTS = Path("docs/results/bandit")


def read_method(results: Path, method: str) -> Curves:
    """The curves of a method, in whichever file of a folder's ``runs`` they are.

    Raises:
        ConfigError: No file has it.
    """
    known: list[str] = []
    for file in sorted((results / "runs").glob("*.csv")):
        runs = read_runs(file)
        if method in runs:
            return runs[method]
        known += runs
    near = difflib.get_close_matches(method, known, n=5, cutoff=0) or ["nothing"]
    raise ConfigError(f"{method!r}: not in {results}/runs/*.csv; nearest: {'; '.join(near)}")


def differences(method: Curves, other: Curves, at: Sequence[float]) -> Iterator[str]:
    """A line for each number of labels, and one for the whole curve.

    Each has the mean difference, its interval, and how often the method is above.

    Args:
        method: Curves.
        other: Likewise, measured after as many labels.
        at: Numbers of labels; of each the nearest that was measured.

    Raises:
        ConfigError: They have fewer than two seeds in common.
    """
    shared = np.intersect1d(method.seeds, other.seeds)
    if len(shared) < 2:
        raise ConfigError(f"{len(shared)} seeds in common, expected two or more")
    win_rates, others = (curves.only(shared).columns["win_rate"] for curves in (method, other))
    places = [int(np.argmin(np.abs(method.queries - labels))) for labels in at]
    read = {f"after {method.queries[i]:.0f} labels": np.s_[:, [i]] for i in places}
    for where, columns in (read | {"over the whole curve": np.s_[:, :]}).items():
        ours, theirs = (w[columns].mean(axis=1) for w in (win_rates, others))
        (mean,), (low,), _ = interval((ours - theirs)[:, None])
        yield (
            f"{where}: {mean:+.3f} +- {mean - low:.3f} "
            f"({ours.mean():.3f}, {theirs.mean():.3f}; "
            f"ahead in {(ours > theirs).sum()} of {len(shared)} seeds)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method")
    parser.add_argument("other")
    parser.add_argument("--at", type=float, nargs="+", help="numbers of labels (the last)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder ({RESULTS})")
    arguments = parser.parse_args()
    try:
        method, other = (
            read_method(arguments.results, name) for name in (arguments.method, arguments.other)
        )
        for line in differences(method, other, arguments.at or [method.queries[-1]]):
            print(line)
    except ConfigError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
