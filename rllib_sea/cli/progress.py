"""What a run shows while it runs: a live display on a terminal, else one line per round."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from rllib_sea.cli.console import TextConsole
from rllib_sea.durations import duration_text
from rllib_sea.messages import WARNING, told_since

WIN_RATE = "evaluation/win_rate_vs_initial"
ERM_WIN_RATE = "reward_model/estimated_win_rate"
GAIN = "reward_model/expected_gain"
_ENDS = ("done", "failed")
_STAGES = {
    "propose": "seconds/propose",
    "erm": "seconds/erm",
    "policy": "seconds/policy",
    "evaluation": "evaluation/seconds",
}
_SHOWN = {
    "soft": f"{WIN_RATE}_soft",
    "mean score": "evaluation/mean_score",
    "online win rate": "duels/online_win_rate",
    "score of duels": "duels/mean_score",
}
# Of several trials, a column each.
_COLUMNS = ("queries", "win rate vs initial", "soft", "mean score", "now", "left")
_COUNTS = ("round", "training_iteration", "num_oracle_queries", "time_total_s")
# Rounds whose seconds are averaged, to estimate the time left.
_RECENT = 5
# How often trials are asked for what they tell in the middle of a round.
LISTEN_S = 1.0


@dataclass
class TrialProgress:
    """What is known of one trial.

    Attributes:
        label: What it is called here.
        since: When its present stage began, on the monotonic clock.
        stage: What it is doing.
        values: The newest value of every metric, by its name in docs/metrics.md.
        recent: Seconds of the newest rounds.
        told: What was told of it since its last result.
        told_at: When the last of that was told.
    """

    label: str
    since: float
    stage: str = "starting engines"
    values: dict[str, Any] = field(default_factory=dict)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    told: list[str] = field(default_factory=list)
    told_at: int = field(default_factory=time.time_ns)

    def add(self, result: Mapping[str, Any], now: float) -> None:
        """Takes in a round's result, flat."""
        self.recent.append(result.get("seconds/round", result.get("time_this_iter_s", 0.0)))
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

    def seconds_left(self, stop: Mapping[str, float]) -> float | None:
        """Estimates the seconds until its budget is used or a stop criterion is reached.

        Counts grow by the round as they have so far. None if nothing can be said.
        """
        rounds = [
            max(0.0, stop[key] / self.values[key] - 1) * self.round
            for key in _COUNTS
            if key in stop and self.values.get(key)
        ]
        if self.values.get("rounds_left") is not None:
            rounds.append(self.values["rounds_left"])
        return min(rounds) * fmean(self.recent) if rounds and self.recent else None


def estimate_text(values: Mapping[str, Any], key: str) -> str:
    """A mean with its interval: ``"0.578 [0.456, 0.692]"``."""
    low, high = values.get(f"{key}_low"), values.get(f"{key}_high")
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{values[key]:.3f}{interval}"


def evaluation_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an evaluation measured (:func:`rllib_sea.evaluation.summarise`): names and texts."""
    rows = []
    for name in evaluation:
        apart = name in ("num_prompts", "num_judged", "seconds")
        if apart or name.startswith("initial_") or name.endswith(("_low", "_high")):
            continue
        text = estimate_text(evaluation, name)
        if f"initial_{name}" in evaluation:
            text += f", initially {estimate_text(evaluation, f'initial_{name}')}"
        rows.append((name.replace("_", " "), text))
    rows.append(("held-out prompts", f"{evaluation['num_prompts']:.0f} (95% intervals)"))
    if "num_judged" in evaluation:
        rows.append(("judged by people", f"{evaluation['num_judged']:.0f} of them"))
    return rows


def forecast_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the ERM foretells (:func:`rllib_sea.reward_model.forecast.forecast`): names and texts.

    Args:
        values: Of a result, flat.
    """
    rows = []
    if ERM_WIN_RATE in values:
        rows.append(("ERM's win rate vs initial", estimate_text(values, ERM_WIN_RATE)))
    if GAIN in values:
        num_next = values["reward_model/next_labels"]
        rows.append((f"ERM's gain of {num_next:.0f} more", estimate_text(values, GAIN)))
    return rows


def trial_label(experiment: str, trial: Trial, alone: bool) -> str:
    """A trial's name: the experiment's, and if it has others, its number and searched values.

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


def cells(values: Mapping[str, Any]) -> dict[str, str]:
    """What is shown of a trial, each text by its name; what was not measured is left out."""
    found = {}
    if "num_oracle_queries" in values:
        budget = values.get("query_budget")
        found["queries"] = f"{values['num_oracle_queries']}{f'/{budget}' if budget else ''} queries"
    if WIN_RATE in values:
        found["win rate vs initial"] = estimate_text(values, WIN_RATE)
    for name, key in _SHOWN.items():
        if key in values:
            found[name] = f"{values[key]:.3f}"
    found |= dict(forecast_rows(values))
    if "seconds/round" in values:
        stages = [f"{name} {values[key]:.1f}" for name, key in _STAGES.items() if key in values]
        found["last round"] = f"{values['seconds/round']:.1f} s ({', '.join(stages)})"
    return found


def round_line(progress: TrialProgress, result: Mapping[str, Any], left: float | None) -> str:
    """One line for one round.

    Args:
        progress: The trial, with the round taken in.
        result: The round's result, flat: what was not measured in it is left out.
        left: Seconds left, None if unknown.
    """
    parts = [f"round {progress.round}"]
    for name, text in cells(result).items():
        parts.append(text if name in ("queries", "last round") else f"{name} {text}")
    if left is not None:
        parts.append(f"about {duration_text(left)} left")
    return f"{progress.label}: {', '.join(parts)}"


class Progress(Callback):
    """Shows an experiment's trials as they go.

    Args:
        experiment: The experiment's name.
        stop: Its stop criteria.
        console: Where to.
        live: Whether a display that redraws itself may be used, if the console can.
    """

    def __init__(
        self, experiment: str, stop: Mapping[str, float], console: TextConsole, live: bool
    ) -> None:
        self._experiment = experiment
        self._stop = stop
        self._console = console
        self._alone = True
        self._trials: dict[str, TrialProgress] = {}
        self._listened = 0.0
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

    def on_step_begin(self, trials: list[Trial], **info: Any) -> None:
        # Tune has no event for a trial whose actor is being started.
        for trial in trials:
            if trial.trial_id not in self._trials and not trial.is_finished():
                self._say(self._progress(trial), "starting engines")
        if _clock() - self._listened >= LISTEN_S:
            self._listened = _clock()
            for trial in trials:
                if trial.trial_id in self._trials and not trial.is_finished():
                    self._listen(trial)

    def on_trial_start(self, trial: Trial, **info: Any) -> None:
        progress = self._progress(trial)
        self._say(progress, f"engines are up after {duration_text(_clock() - progress.since)}")
        progress.enter(f"round {progress.round + 1}", _clock())

    def on_trial_result(self, trial: Trial, result: dict[str, Any], **info: Any) -> None:
        progress = self._progress(trial)
        flat = flatten_dict(result, delimiter="/")
        progress.add(flat, _clock())
        lines = [
            f"{prefix}{line}"
            for kind, prefix in (("notes", ""), ("warnings", WARNING))
            for line in result.get(kind, "").splitlines()
        ]
        for line in lines:
            if line not in progress.told:
                self._console.say(f"{progress.label}: {line}")
        progress.told.clear()
        self._listen(trial, lines)
        if not self._live:
            left = None if result.get("done") else progress.seconds_left(self._stop)
            self._console.say(round_line(progress, flat, left))

    def on_trial_complete(self, trial: Trial, **info: Any) -> None:
        self._progress(trial).enter("done", _clock())

    def on_trial_error(self, trial: Trial, **info: Any) -> None:
        progress = self._progress(trial)
        progress.enter("failed", _clock())
        self._say(progress, "failed")

    def on_experiment_end(self, **info: Any) -> None:
        if self._live:
            self._live.stop()

    # -- Output -----------------------------------------------------------------------

    def _progress(self, trial: Trial) -> TrialProgress:
        if trial.trial_id not in self._trials:
            label = trial_label(self._experiment, trial, self._alone)
            progress = TrialProgress(label, _clock())
            # A resumed trial has been here before.
            progress.values.update(flatten_dict(trial.last_result or {}, delimiter="/"))
            self._trials[trial.trial_id] = progress
        return self._trials[trial.trial_id]

    def _listen(self, trial: Trial, known: Sequence[str] = ()) -> None:
        """Says what a trial tells in the middle of a round, but for what is known."""
        progress = self._progress(trial)
        for at, line in told_since(trial.storage, progress.told_at):
            progress.told_at = at
            if line not in known:
                progress.told.append(line)
                self._console.say(f"{progress.label}: {line}")

    def _say(self, progress: TrialProgress, text: str) -> None:
        if not self._live:
            self._console.say(f"{progress.label}: {text}")

    def _display(self) -> RenderableType:
        """One trial from top to bottom, several as a table with a line each."""
        trials = list(self._trials.values())
        if not trials:
            return f"{self._experiment}: starting"
        rows = [cells(progress.values) | self._now(progress) for progress in trials]
        table = Table(box=None, padding=(0, 1), title=self._experiment, title_justify="left")
        if self._alone:
            table.show_header = False
            for name, text in rows[0].items():
                table.add_row(name, text)
            return table
        names = [name for name in _COLUMNS if any(name in row for row in rows)]
        for name in ("trial", *names):
            table.add_column(name)
        for progress, row in zip(trials, rows, strict=True):
            label = progress.label.removeprefix(f"{self._experiment} ")
            table.add_row(label, *(row.get(name, "") for name in names))
        return table

    def _now(self, progress: TrialProgress) -> dict[str, str]:
        """What a trial does, for how long already, and how long it still takes."""
        if progress.stage in _ENDS:
            return {"now": progress.stage}
        passed = _clock() - progress.since
        shown = {"now": f"{progress.stage}, {duration_text(passed)}"}
        left = progress.seconds_left(self._stop)
        if left is not None:
            shown["left"] = f"about {duration_text(max(0.0, left - passed))}"
        return shown


def _clock() -> float:
    return time.monotonic()
