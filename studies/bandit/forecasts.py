"""What the ERM foretells of the next labels, against what they bring.

    python -m studies.bandit.forecasts         # 6 seeds of three methods, 2 minutes on one core
    python -m studies.bandit.forecasts --draw  # picture and table only

As in the plugin, the win rate is that of the policy's most probable response to each prompt over
the initial policy's, and the ERM forecasts after every third round; here the truth is known. The
constants of :mod:`rllib_sea.reward_model.forecast` were chosen on seeds 100 to 103, which are not
among these. Runs are kept in `runs.csv`; delete the file to start anew.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rllib_sea.randomness import Stream, generator
from rllib_sea.reward_model.forecast import NEXT_SHARE, EvaluatedPolicies, forecast, is_enough
from rllib_sea.reward_model.health import CalibrationWindow, win_probabilities
from studies.bandit.methods import RECIPE, SUITES
from studies.bandit.names import label
from studies.bandit.results import can_draw
from studies.bandit.simulation import MAX_ROUNDS, Duels, Simulation
from studies.bandit.tables import table

OUT = Path("docs/results/forecast")
METHODS = ("passive", f"bai_ts+mix, {RECIPE}", "bai_ts, replay 3")
EVALUATE_EVERY = 3  # rounds
COLUMNS = (
    "labels",
    "win_rate",
    "estimated_win_rate",
    "estimated_win_rate_low",
    "estimated_win_rate_high",
    "gain",  # what a tenth of the labels more brought
    "expected_gain",
    "expected_gain_low",
    "expected_gain_high",
)
THRESHOLDS = (0.01, 0.02, 0.03)
STAGES = (0.55, 0.75)  # true win rates between which a run climbs
Rows = list[dict[str, float]]


def run(method: str, seed: int) -> Rows:
    """One row per evaluation; the gain is NaN where the run ends before it is known."""
    # The best of N, which is not measured here, has the ERM learn with passive, too.
    settings = replace(SUITES["main"].methods[method], best_of_n=8)
    simulation = Simulation(settings, seed)
    prompts, hidden = torch.arange(len(simulation.world.contexts)), simulation.world.rewards[0]
    names = [str(i) for i in range(len(prompts))]

    def most_probable() -> torch.Tensor:
        with torch.inference_mode():
            return simulation.policy.log_probs(prompts).argmax(dim=1)

    start, window, evaluated, rows = most_probable(), CalibrationWindow(), EvaluatedPolicies(), []
    number, last = 0, MAX_ROUNDS * settings.query_budget // settings.prompts_per_round
    while simulation.queries < settings.query_budget and number < last:
        duels = simulation.step()
        number += 1
        window.add(*foretold(duels))
        if number % EVALUATE_EVERY:
            continue
        now = most_probable()
        pairs = torch.stack([now, start], dim=1)
        features = simulation.world.features(prompts[:, None].expand_as(pairs), pairs).numpy()
        evaluated.add(simulation.queries, names, features)
        rewards = simulation.reward_model.rewards(torch.from_numpy(evaluated.features)).numpy()
        rng = generator(seed, number, 0, Stream.FORECAST)
        said = forecast(evaluated, rewards, window.predictions, rng)
        won = torch.sigmoid(hidden[prompts, now] - hidden[prompts, start]).mean()
        true = {"labels": float(simulation.queries), "win_rate": float(won)}
        rows.append(dict.fromkeys(COLUMNS, np.nan) | true | said)
    return with_gains(rows)


def with_gains(rows: Rows) -> Rows:
    """A run's rows with what a tenth of the labels more brought; NaN where it is not known."""
    labels, wins = (np.array([row[name] for row in rows]) for name in ("labels", "win_rate"))
    later = np.interp(labels * (1 + NEXT_SHARE), labels, wins, right=np.nan)
    return [row | {"gain": gain} for row, gain in zip(rows, later - wins, strict=True)]


def foretold(duels: Duels) -> tuple[np.ndarray, np.ndarray]:
    """(N,) probabilities of a round's real labels, foretold, and (N,) labels."""
    rows = np.flatnonzero(duels.real)
    places = (duels.first_place[rows], duels.second_place[rows])
    rewards = np.stack([duels.rewards[:, rows, place] for place in places])  # (2, K, N)
    probabilities = win_probabilities(rewards.transpose(2, 0, 1)).mean(axis=1)
    return probabilities, duels.first_wins[rows]


def read(file: Path) -> dict[tuple[str, int], Rows]:
    """The rows of a file by method and seed; none if it is missing."""
    runs: dict[tuple[str, int], Rows] = {}
    if file.exists():
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream):
                key = row.pop("method"), int(row.pop("seed"))
                numbers = {name: float(text or "nan") for name, text in row.items()}
                runs.setdefault(key, []).append(numbers)
    return runs


def write(file: Path, runs: dict[tuple[str, int], Rows]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "seed", *COLUMNS])
        for (method, seed), rows in runs.items():
            for row in rows:
                cells = ["" if np.isnan(row[c]) else f"{row[c]:.5g}" for c in COLUMNS]
                writer.writerow([method, seed, *cells])


def methods_of(runs: dict[tuple[str, int], Rows]) -> list[str]:
    """The methods, in the order of the runs."""
    return list(dict.fromkeys(method for method, _ in runs))


def within(rows: Rows, name: str, truth: str) -> str:
    """Share of rows whose interval has the truth."""
    return f"{np.mean([r[f'{name}_low'] <= r[truth] <= r[f'{name}_high'] for r in rows]):.2f}"


def calibration_table(runs: dict[tuple[str, int], Rows]) -> str:
    """How the estimates stand to the truth, per method and by how far the run had come."""
    lines = []
    for method in methods_of(runs):
        of_method = [row for (name, _), rows in runs.items() if name == method for row in rows]
        for low, high in zip((0.0, *STAGES), (*STAGES, 1.0), strict=True):
            rows = [
                r
                for r in of_method
                if low <= r["win_rate"] < high and not np.isnan(r["gain"] + r["expected_gain"])
            ]
            if not rows:
                continue
            mean = {name: np.mean([r[name] for r in rows]) for name in COLUMNS}
            error = [r["expected_gain"] - r["gain"] for r in rows]
            lines.append(
                [
                    label(method),
                    f"{low:.2f} to {high:.2f}",
                    str(len(rows)),
                    f"{mean['win_rate']:.3f}",
                    f"{mean['estimated_win_rate']:.3f}",
                    within(rows, "estimated_win_rate", "win_rate"),
                    f"{mean['gain']:+.4f}",
                    f"{mean['expected_gain']:+.4f}",
                    f"{np.sqrt(np.square(error).mean()):.4f}",
                    within(rows, "expected_gain", "gain"),
                    f"{np.mean([r['gain'] > r['expected_gain_high'] for r in rows]):.2f}",
                ]
            )
    header = [
        "method",
        "true win rate",
        "forecasts",
        "its mean",
        "the ERM's",
        "truth in interval",
        "gain of a tenth more labels",
        "expected",
        "root mean square error",
        "truth in interval",
        "truth above it",
    ]
    return table(header, lines)


def stopping_table(runs: dict[tuple[str, int], Rows]) -> str:
    """What the stop rule would have saved, and what it would have cost."""
    lines = []
    for method in methods_of(runs):
        of_method = [rows for (name, _), rows in runs.items() if name == method]
        for threshold in THRESHOLDS if of_method else ():
            # A run that is not stopped ends with its last row.
            ends = [
                next((r for r in rows if is_enough(r, threshold)), rows[-1]) for rows in of_method
            ]
            stopped = [end is not rows[-1] for end, rows in zip(ends, of_method, strict=True)]
            lost = [
                rows[-1]["win_rate"] - end["win_rate"]
                for end, rows in zip(ends, of_method, strict=True)
            ]
            lines.append(
                [
                    label(method),
                    f"{threshold:g}",
                    f"{sum(stopped)} of {len(ends)}",
                    f"{np.mean([end['labels'] for end in ends]):.0f}",
                    f"{np.mean([rows[-1]['win_rate'] for rows in of_method]):.3f}",
                    f"{np.mean(lost):+.3f}",
                    f"{max(lost):+.3f}",
                ]
            )
    header = [
        "method",
        "stop_when_gain_below",
        "runs stopped",
        "labels, mean of all runs",
        "win rate at the end",
        "lost by stopping, mean",
        "worst",
    ]
    return table(header, lines)


def draw(runs: dict[tuple[str, int], Rows], out: Path, name: str = "forecasts") -> None:
    """Foretold against real gains, and one run's forecasts along its curve."""
    import matplotlib.pyplot as plt

    from studies.bandit.names import color
    from studies.bandit.pictures import save

    _, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    for method in methods_of(runs):
        rows = [r for (name, _), of_run in runs.items() if name == method for r in of_run]
        real, said = ([r[name] for r in rows] for name in ("gain", "expected_gain"))
        left.scatter(said, real, s=6, alpha=0.4, color=color(method), label=label(method))
        rows = runs[method, 0]
        labels = [r["labels"] for r in rows]
        right.plot(labels, [r["win_rate"] for r in rows], color=color(method), label=label(method))
        ends = [[r[f"estimated_win_rate_{end}"] for r in rows] for end in ("low", "high")]
        right.fill_between(labels, *ends, color=color(method), alpha=0.2, linewidth=0)
    ends = (-0.03, 0.1)
    left.plot(ends, ends, color="#888888", linewidth=1)
    left.set(xlim=ends, xlabel="gain of a tenth more labels, foretold", ylabel="real")
    left.set_title("Gain of the next labels")
    left.legend(frameon=False)
    right.set(xlabel="labels", ylabel="win rate over the start")
    right.set_title("Seed 0: true win rate, and the ERM's interval")
    save(out, name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=6, help="runs of each method")
    parser.add_argument("--draw", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder ({OUT})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.out / "runs.csv"
    runs = read(file)
    for seed in range(0 if arguments.draw else arguments.seeds):
        for method in METHODS:
            if (method, seed) not in runs:
                runs[method, seed] = run(method, seed)
                write(file, runs)
                print(f"{method}, seed {seed}", flush=True)
    tables = f"{calibration_table(runs)}\n{stopping_table(runs)}"
    (arguments.out / "tables.md").write_text(
        f"# Forecasts: tables\n\nMade by `python -m studies.bandit.forecasts`.\n\n{tables}"
    )
    print(tables)
    if can_draw():
        draw(runs, arguments.out)


if __name__ == "__main__":
    main()
