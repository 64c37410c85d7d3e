"""What is drawn of runs: win rates, labels, the ensemble's health."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rllib_sea.report.charts import Chart, Point, Series, trailing_means
from rllib_sea.report.runs import Row, Run, number
from rllib_sea.reward_model.health import WINDOW_SIZE, calibration_bins, win_probabilities
from rllib_sea.statistics import hard_win_rate

QUERIES = "num_oracle_queries"
# Rounds that noisy curves are averaged over.
SMOOTHED = 5
_SHARE = (0.0, 1.0)


def evaluation_charts(runs: Sequence[Run]) -> list[Chart]:
    """Curves of evaluations against queries; those that nobody measured are left out."""

    def chart(title: str, key: str, note: str = "", **options: Any) -> Chart:
        return Chart(
            title, "queries", _by_run(runs, lambda run: estimates(run, key)), note, **options
        )

    level: dict[str, Any] = {"y_range": _SHARE, "level": 0.5}
    charts = [
        chart("Win rate against the initial policy", "win_rate_vs_initial", **level),
        chart(
            "Win rate against the initial policy, soft",
            "win_rate_vs_initial_soft",
            "Mean preference probability: less noisy than the share won.",
            **level,
        ),
        chart(
            "Win rate of sampled responses against the initial policy's, soft",
            "sampled_win_rate_vs_initial_soft",
            "Several per prompt, with common random numbers: the narrowest interval.",
            **level,
        ),
        chart("Win rate against the references", "win_rate_vs_reference", **level),
        chart("Win rate against the references, soft", "win_rate_vs_reference_soft", **level),
        chart("Mean score by the oracle", "mean_score"),
        chart(
            "KL divergence from the reference policy",
            "kl",
            "In nats per response: how far the policy has gone.",
            from_zero=True,
        ),
        chart("Share of responses that ended by themselves", "finished_share", y_range=_SHARE),
        chart("Response length", "response_length", "In tokens.", from_zero=True),
        chart(
            "Repetition",
            "repeated_share",
            "Share of a response's word trigrams that stood in it before.",
            from_zero=True,
        ),
        chart(
            "Perplexity of the references",
            "reference_perplexity",
            "Per token: what the policy forgets of how people write.",
            from_zero=True,
        ),
        chart(
            "Best of N against the initial policy, soft",
            "best_of_n_win_rate_vs_initial_soft",
            "The best of N sampled responses by the ensemble's mean reward.",
            **level,
        ),
    ]
    return [chart for chart in charts if not chart.is_empty]


def estimates(run: Run, name: str) -> list[Point]:
    """A metric of the evaluations against queries, with its interval if it has one."""
    points = []
    for row in run.evaluations:
        x, y, low, high = (
            number(row, key)
            for key in (QUERIES, *(f"evaluation/{name}{end}" for end in ("", "_low", "_high")))
        )
        if x is not None and y is not None:
            points.append(Point(x, y, low, high))
    return points


def label_charts(runs: Sequence[Run]) -> list[Chart]:
    """Labels by the oracle and by the ensemble, against rounds."""

    def pairs(points: Callable[[Run, str], list[Point]]) -> list[Series]:
        kinds = (("oracle", QUERIES, False), ("ensemble", "num_synthetic_pairs", True))
        return [
            Series(_joined(runs, run, kind), points(run, key), place, dashed)
            for place, run in enumerate(runs)
            for kind, key, dashed in kinds
        ]

    charts = [
        Chart("Labels per round", "rounds", pairs(_differences), from_zero=True),
        Chart("Labels in all", "rounds", pairs(_by_round), from_zero=True),
    ]
    return [chart for chart in charts if not chart.is_empty]


def health_charts(runs: Sequence[Run]) -> list[Chart]:
    """Is the ensemble right, calibrated, and of more than one mind?"""

    def series(name: str, smoothed: int = 1) -> list[Series]:
        return _by_run(
            runs,
            lambda run: trailing_means(_against_queries(run, f"reward_model/{name}"), smoothed),
        )

    charts = [
        Chart(
            "Accuracy on fresh labels",
            "queries",
            series("accuracy_on_new_labels", SMOOTHED),
            f"Before they are learned from; the mean of the last {SMOOTHED} rounds.",
            y_range=_SHARE,
            level=0.5,
        ),
        Chart(
            "Calibration error",
            "queries",
            series("calibration_error"),
            f"Of the last {WINDOW_SIZE} fresh labels; 0 is best.",
            from_zero=True,
        ),
        Chart(
            "How sure, and how often right",
            "confidence",
            [
                Series(run.name if len(runs) > 1 else "", reliability(run), place, line=False)
                for place, run in enumerate(runs)
            ],
            f"The last {WINDOW_SIZE} fresh labels by the ensemble's confidence, with 95% "
            "intervals. On the line the confidence is right; below it, too great.",
            y_range=_SHARE,
            x_range=(0.5, 1.0),
            diagonal=True,
        ),
        Chart(
            "Spread: disagreement of members",
            "queries",
            series("member_disagreement", SMOOTHED),
            "Standard deviation of the members' probabilities; at 0 there is nothing left to "
            f"explore. The mean of the last {SMOOTHED} rounds.",
            from_zero=True,
        ),
        Chart(
            "Spread: members with the same favourite",
            "queries",
            series("argmax_agreement", SMOOTHED),
            f"At 1 all like the same response best. The mean of the last {SMOOTHED} rounds.",
            y_range=_SHARE,
        ),
    ]
    return [chart for chart in charts if not chart.is_empty]


def reliability(run: Run) -> list[Point]:
    """Share of right predictions by confidence, with Wilson's intervals; no empty bins."""
    duels = [duel for duel in fresh_labels(run) if duel["preference"] != 0.5][-WINDOW_SIZE:]
    if not duels:
        return []
    outcomes = np.array([duel["preference"] > 0.5 for duel in duels])
    bins = calibration_bins(np.array([ensemble_probability(duel) for duel in duels]), outcomes)
    points = []
    for count, confidence, right in zip(bins.counts, bins.confidence, bins.right, strict=True):
        if count:
            rate = hard_win_rate([1.0] * int(right) + [0.0] * int(count - right))
            points.append(Point(float(confidence / count), rate.mean, rate.low, rate.high))
    return points


def fresh_labels(run: Run) -> list[Row]:
    """Real duels in the order of learning, with what the ensemble thought before."""
    real = (duel for duel in run.duels if not duel["synthetic"])
    return [duel for duel in real if math.isfinite(ensemble_probability(duel))]


def member_probabilities(duel: Row) -> np.ndarray:
    """(K,) each member's probability that the first response of a duel is preferred."""
    return win_probabilities(np.array([duel["member_rewards"]], dtype=float))[0]


def ensemble_probability(duel: Row) -> float:
    """Their mean: the ensemble's prediction."""
    return float(member_probabilities(duel).mean())


def _by_run(runs: Sequence[Run], points: Callable[[Run], list[Point]]) -> list[Series]:
    return [
        Series(run.name if len(runs) > 1 else "", points(run), place)
        for place, run in enumerate(runs)
    ]


def _joined(runs: Sequence[Run], run: Run, kind: str) -> str:
    return f"{run.name}: {kind}" if len(runs) > 1 else kind


def _against_queries(run: Run, key: str) -> list[Point]:
    found = ((number(row, QUERIES), number(row, key)) for row in run.rounds)
    return [Point(x, y) for x, y in found if x is not None and y is not None]


def _by_round(run: Run, key: str) -> list[Point]:
    found = ((number(row, "round"), number(row, key)) for row in run.rounds)
    return [Point(x, y) for x, y in found if x is not None and y is not None]


def _differences(run: Run, key: str) -> list[Point]:
    """What each round added to a count."""
    points = _by_round(run, key)
    before = [0.0, *(point.y for point in points)]
    return [Point(p.x, p.y - b) for p, b in zip(points, before, strict=False)]
