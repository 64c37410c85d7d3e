"""What a run shows while it runs: a live display on a terminal, else one line a round."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

WIN_RATE = "evaluation/win_rate_vs_initial"
_ENDS = ("done", "failed")
_STAGES = {
    "propose": "seconds/propose",
    "erm": "seconds/erm",
    "policy": "seconds/policy",
    "evaluation": "evaluation/seconds",
}
# Rounds over which seconds and queries of a round are averaged, to estimate the time left.
_RECENT = 5


@dataclass
class TrialProgress:
    """What is known of one trial.

    Attributes:
        label: What it is called here.
        since: When its present stage began, on the monotonic clock.
        stage: What it is doing.
        values: The newest value of every metric, by its name in docs/metrics.md.
        recent: (queries, seconds) of the newest rounds.
    """

    label: str
    since: float
    stage: str = "starting engines"
    values: dict[str, Any] = field(default_factory=dict)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, result: Mapping[str, Any], now: float) -> None:
        """Takes in a round's result, flat."""
        before = self.values.get("num_oracle_queries", 0)
        asked = result.get("num_oracle_queries", 0) - before
        self.recent.append((asked, result.get("seconds/round", result.get("time_this_iter_s", 0))))
        self.values.update(result)
        self.enter(f"round {self.round + 1}", now)

    def enter(self, stage: str, now: float) -> None:
        """Begins a stage."""
        self.stage = stage
        self.since = now

    @property
    def round(self) -> int:
        """Rounds so far."""
        return int(self.values.get("round", self.values.get("training_iteration", 0)))


def seconds_left(
    values: Mapping[str, Any],
    recent: Sequence[tuple[float, float]],
    stop: Mapping[str, float],
) -> float | None:
    """Estimates how long a trial still takes.

    Args:
        values: Its newest metrics.
        recent: (queries, seconds) of its newest rounds.
        stop: Its stop criteria.

    Returns:
        Seconds until the first of its query budget and its criteria is reached; None
        where nothing can be said.
    """
    if not recent:
        return None
    asked = sum(queries for queries, _ in recent) / len(recent)
    seconds = sum(duration for _, duration in recent) / len(recent)
    pace = {
        "num_oracle_queries": asked,
        "training_iteration": 1.0,
        "round": 1.0,
        "time_total_s": seconds,
    }
    rounds = [
        max(0.0, goal - values[key]) / pace[key]
        for key, goal in stop.items()
        if key in values and pace.get(key, 0.0) > 0
    ]
    if values.get("rounds_left") is not None:
        rounds.append(values["rounds_left"])
    return min(rounds) * seconds if rounds else None


def estimate_text(values: Mapping[str, Any], key: str) -> str:
    """A mean with its interval, ``"0.578 [0.456, 0.692]"``; empty without the metric."""
    if key not in values:
        return ""
    low, high = values.get(f"{key}_low"), values.get(f"{key}_high")
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{values[key]:.3f}{interval}"


def duration_text(seconds: float) -> str:
    """``"12 s"``, ``"9 min 12 s"`` or ``"3 h 9 min"``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min {seconds % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def trial_label(experiment: str, trial: Trial, alone: bool) -> str:
    """A trial's name: the experiment's, and where it has others its number and searched values.

    A searched key has its whole path: ``gamma/2/1=0.9``, as in the table of a search.
    """
    if alone:
        return experiment
    number = trial.experiment_tag.partition("_")[0]
    values = (
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in trial.evaluated_params.items()
    )
    return " ".join((experiment, number, ", ".join(values))).rstrip()


def round_line(progress: TrialProgress, result: Mapping[str, Any], left: float | None) -> str:
    """One line for one round.

    Args:
        progress: The trial, with the round taken in.
        result: The round's result, flat: what was not measured in it is left out.
        left: Seconds left, None where unknown.
    """
    parts = [f"round {progress.round}", _queries(result)]
    parts += [_held_out(result), _duels(result), _seconds(result), _left(left)]
    return f"{progress.label}: {', '.join(part for part in parts if part)}"


class Progress(Callback):
    """Shows an experiment's trials as they go.

    Args:
        experiment: The experiment's name.
        stop: Its stop criteria.
        console: Where to.
        live: Whether a display that redraws itself may be used, where the console can.
    """

    def __init__(
        self, experiment: str, stop: Mapping[str, float], console: Console, live: bool
    ) -> None:
        self._experiment = experiment
        self._stop = stop
        self._console = console
        self._alone = True
        self._trials: dict[str, TrialProgress] = {}
        self._live: Live | None = None
        if live and console.is_terminal:
            self._live = Live(
                get_renderable=self._display,
                console=console,
                refresh_per_second=2,
                transient=True,
            )

    # -- Tune's events ----------------------------------------------------------------

    def setup(self, total_num_samples: int | None = None, **info: Any) -> None:
        self._alone = total_num_samples in (None, 1)
        if self._live:
            self._live.start()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        # Tune has no event for a trial whose actor is being started.
        for trial in trials:
            if trial.trial_id not in self._trials and not trial.is_finished():
                self._say(self._progress(trial), "starting engines")

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        progress = self._progress(trial)
        self._say(progress, f"engines are up after {duration_text(_now() - progress.since)}")
        progress.enter(f"round {progress.round + 1}", _now())

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        progress = self._progress(trial)
        flat = flatten_dict(result, delimiter="/")
        progress.add(flat, _now())
        for kind, prefix in (("notes", ""), ("warnings", "warning: ")):
            for line in result.get(kind, "").splitlines():
                self._print(f"{progress.label}: {prefix}{line}")
        if not self._live:
            left = None if result.get("done") else self._seconds_left(progress)
            self._print(round_line(progress, flat, left))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._progress(trial).enter("done", _now())

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        progress = self._progress(trial)
        progress.enter("starting engines", _now())
        self._say(progress, f"failure {trial.num_failures}, trying again")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        progress = self._progress(trial)
        progress.enter("failed", _now())
        self._say(progress, "failed")

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        if self._live:
            self._live.stop()

    # -- Output -----------------------------------------------------------------------

    def _progress(self, trial: Trial) -> TrialProgress:
        if trial.trial_id not in self._trials:
            label = trial_label(self._experiment, trial, self._alone)
            progress = TrialProgress(label, _now())
            # A resumed trial has been here before.
            progress.values.update(flatten_dict(trial.last_result or {}, delimiter="/"))
            self._trials[trial.trial_id] = progress
        return self._trials[trial.trial_id]

    def _seconds_left(self, progress: TrialProgress) -> float | None:
        return seconds_left(progress.values, progress.recent, self._stop)

    def _say(self, progress: TrialProgress, text: str) -> None:
        if not self._live:
            self._print(f"{progress.label}: {text}")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _display(self) -> RenderableType:
        trials = list(self._trials.values())
        if not trials:
            return f"{self._experiment}: starting"
        return self._one(trials[0]) if self._alone else self._many(trials)

    def _one(self, progress: TrialProgress) -> RenderableType:
        values = progress.values
        grid = Table(show_header=False, box=None, padding=(0, 1), title_justify="left")
        grid.title = progress.label
        if values.get("query_budget"):
            used = values["num_oracle_queries"]
            grid.add_row("", ProgressBar(total=values["query_budget"], completed=used, width=40))
        rows = {
            "queries": _queries(values),
            "held out": _held_out(values),
            "duels": _duels(values),
            "last round": _seconds(values),
            "now": _stage(progress),
            "time left": _left(self._left_now(progress)),
        }
        for name, text in rows.items():
            if text:
                grid.add_row(name, text)
        return grid

    def _many(self, trials: Iterable[TrialProgress]) -> RenderableType:
        table = Table(box=None, padding=(0, 1), title=self._experiment, title_justify="left")
        for name in ("trial", "queries", "win rate vs initial", "soft", "online", "score"):
            table.add_column(name)
        for name in ("s/round", "now", "left"):
            table.add_column(name)
        for progress in trials:
            values = progress.values
            left = self._left_now(progress)
            table.add_row(
                progress.label.removeprefix(f"{self._experiment} "),
                _queries(values).removesuffix(" queries"),
                estimate_text(values, WIN_RATE),
                _number(values, f"{WIN_RATE}_soft"),
                _number(values, "duels/online_win_rate"),
                _number(values, "evaluation/mean_score"),
                _number(values, "seconds/round", 1),
                _stage(progress),
                "" if left is None else duration_text(left),
            )
        return table

    def _left_now(self, progress: TrialProgress) -> float | None:
        """Seconds left, which also pass within a round."""
        if progress.stage in _ENDS:
            return None
        left = self._seconds_left(progress)
        return None if left is None else max(0.0, left - (_now() - progress.since))


def _now() -> float:
    return time.monotonic()


def _stage(progress: TrialProgress) -> str:
    """What a trial does, and for how long already."""
    if progress.stage in _ENDS:
        return progress.stage
    return f"{progress.stage}, {duration_text(_now() - progress.since)}"


def _number(values: Mapping[str, Any], key: str, digits: int = 3) -> str:
    return f"{values[key]:.{digits}f}" if key in values else ""


def _queries(values: Mapping[str, Any]) -> str:
    if "num_oracle_queries" not in values:
        return ""
    budget = values.get("query_budget")
    return f"{values['num_oracle_queries']}{f'/{budget}' if budget else ''} queries"


def _held_out(values: Mapping[str, Any]) -> str:
    """Win rates against the initial policy, and the score, on held-out prompts."""
    if WIN_RATE not in values:
        return ""
    text = f"win rate vs initial {estimate_text(values, WIN_RATE)}"
    text += f" (soft {_number(values, f'{WIN_RATE}_soft')}"
    text += f", {values['evaluation/num_prompts']:.0f} prompts)"
    score = _number(values, "evaluation/mean_score")
    return text + (f", mean score {score}" if score else "")


def _duels(values: Mapping[str, Any]) -> str:
    """How the duelled responses fare."""
    named = {
        "online win rate": _number(values, "duels/online_win_rate"),
        "score of duels": _number(values, "duels/mean_score"),
    }
    return ", ".join(f"{name} {text}" for name, text in named.items() if text)


def _seconds(values: Mapping[str, Any]) -> str:
    """Seconds of a round, and of its stages."""
    if "seconds/round" not in values:
        return ""
    stages = [f"{name} {values[key]:.1f}" for name, key in _STAGES.items() if key in values]
    return f"{values['seconds/round']:.1f} s ({', '.join(stages)})"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration_text(seconds)} left"
