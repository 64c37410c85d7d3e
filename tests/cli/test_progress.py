from __future__ import annotations

import io
from typing import Any

import pytest
from ray.tune.utils import flatten_dict
from toy import BUDGET, toy_result

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.progress import (
    Progress,
    TrialProgress,
    estimate_text,
    evaluation_rows,
    round_line,
    trial_label,
)
from rllib_sea.durations import duration_text


class FakeTrial:
    """What the display reads of a Tune trial."""

    def __init__(
        self, trial_id: str, tag: str = "0", searched: dict[str, Any] | None = None
    ) -> None:
        self.trial_id = trial_id
        self.experiment_tag = tag
        self.evaluated_params = searched or {}
        self.last_result: dict[str, Any] = {}
        self.num_failures = 1
        self.storage = None

    def is_finished(self) -> bool:
        return False


def flat(steps: int) -> dict[str, Any]:
    return flatten_dict(toy_result(steps), delimiter="/")


def shown(console: TextConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_evaluation_has_a_row_a_metric_with_its_interval() -> None:
    measured = {
        "num_prompts": 64.0,
        "win_rate_vs_initial": 0.578125,
        "win_rate_vs_initial_low": 0.456,
        "win_rate_vs_initial_high": 0.692,
        "response_length": 31.5,
        "finished_share": 0.5,
        "initial_finished_share": 0.25,
        "seconds": 3.0,
    }
    assert evaluation_rows(measured) == [
        ("win rate vs initial", "0.578 [0.456, 0.692]"),
        ("response length", "31.500"),
        ("finished share", "0.500, initially 0.250"),
        ("held-out prompts", "64 (95% intervals)"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (552, "9 min 12 s"), (11340, "3 h 9 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_estimates() -> None:
    assert estimate_text(flat(1), "evaluation/win_rate_vs_initial") == "0.578 [0.456, 0.692]"
    assert estimate_text(flat(1), "evaluation/mean_score") == "4.190"


def test_time_left_by_hand() -> None:
    progress = TrialProgress("exp", since=0.0)
    # Nothing can be said before the first round.
    assert progress.seconds_left({"round": 2}) is None
    progress.recent.extend([25.0, 15.0])
    progress.values = {
        "num_oracle_queries": 24,
        "rounds_left": 17,
        "round": 2,
        "time_total_s": 40.0,
    }
    # 12 queries and 20 s a round.
    assert progress.seconds_left({}) == pytest.approx(17 * 20)
    # What ends the run first counts.
    assert progress.seconds_left({"round": 5}) == pytest.approx(3 * 20)
    assert progress.seconds_left({"round": 5, "time_total_s": 50}) == pytest.approx(10)
    assert progress.seconds_left({"round": 1}) == 0
    until = {"num_oracle_queries": 84}
    assert progress.seconds_left(until) == pytest.approx((84 - 24) / 12 * 20)
    # Nor without an end, or a count that has not begun to grow.
    progress.values = {"round": 2, "rounds_left": None, "num_oracle_queries": 0}
    assert progress.seconds_left({"evaluation/mean_score": 4}) is None
    assert progress.seconds_left(until) is None


def test_one_line_a_round() -> None:
    progress = TrialProgress("exp", since=0.0)
    progress.add(flat(1), now=30.0)
    progress.add(flat(2), now=60.0)
    left = progress.seconds_left({})
    assert left == pytest.approx(8 * 21.3)
    assert round_line(progress, flat(2), left) == (
        "exp: round 2, 32/160 queries, "
        "win rate vs initial 0.578 [0.456, 0.692], soft 0.578, mean score 4.190, "
        "online win rate 0.450, score of duels 3.500, "
        "21.3 s (propose 9.1, erm 0.5, policy 11.2), about 2 min 50 s left"
    )


def test_what_is_foretold_has_its_interval() -> None:
    progress = TrialProgress("exp", since=0.0)
    said = {
        "reward_model/estimated_win_rate": 0.61,
        "reward_model/estimated_win_rate_low": 0.52,
        "reward_model/estimated_win_rate_high": 0.7,
    }
    later = {
        "reward_model/next_labels": 12.0,
        "reward_model/expected_gain": 0.004,
        "reward_model/expected_gain_low": -0.01,
        "reward_model/expected_gain_high": 0.018,
    }
    assert round_line(progress, said, None) == (
        "exp: round 0, ERM's win rate vs initial 0.610 [0.520, 0.700]"
    )
    assert round_line(progress, said | later, None) == (
        "exp: round 0, ERM's win rate vs initial 0.610 [0.520, 0.700], "
        "ERM's gain of 12 more 0.004 [-0.010, 0.018]"
    )


def test_a_round_without_an_evaluation_shows_none() -> None:
    progress = TrialProgress("exp", since=0.0)
    progress.add(flat(1), now=30.0)
    later = {key: value for key, value in flat(2).items() if not key.startswith("evaluation/")}
    progress.add(later, now=60.0)
    assert "win rate vs initial" not in round_line(progress, later, None)
    # The live display keeps the last one.
    assert progress.values["evaluation/mean_score"] == 4.19


@pytest.mark.parametrize("terminal", [False, True])
def test_warnings_are_printed_also_beside_a_live_display(terminal: bool) -> None:
    console = TextConsole(file=io.StringIO(), width=80, force_terminal=terminal)
    display = Progress("exp", {}, console, live=True)
    trial: Any = FakeTrial("a")
    display.setup(total_num_samples=1)
    display.on_step_begin(trials=[trial])
    told = {"warnings": "one\ntwo", "notes": "three"}
    display.on_trial_result(trial=trial, result=toy_result(1) | told)
    display.on_experiment_end()
    assert shown(console).count("exp: warning: one") == 1
    assert shown(console).count("exp: warning: two") == 1
    assert shown(console).count("exp: three") == 1


def test_another_trainable_has_its_line_too() -> None:
    progress = TrialProgress("exp", since=0.0)
    result = {"training_iteration": 3, "time_this_iter_s": 2.0}
    progress.add(result, now=1.0)
    left = progress.seconds_left({"training_iteration": 5})
    assert round_line(progress, result, left) == "exp: round 3, about 4 s left"


def test_without_a_terminal_there_are_plain_lines() -> None:
    console = TextConsole(file=io.StringIO(), width=40)
    display = Progress("exp", {}, console, live=True)
    trial: Any = FakeTrial("a")
    display.setup(total_num_samples=1)
    display.on_step_begin(trials=[trial])
    display.on_step_begin(trials=[trial])
    display.on_trial_start(trial=trial)
    display.on_trial_result(trial=trial, result=toy_result(1))
    display.on_trial_result(trial=trial, result=toy_result(10))
    display.on_trial_complete(trial=trial)
    display.on_experiment_end()
    lines = shown(console).splitlines()
    assert lines[0] == "exp: starting engines"
    assert lines[1].startswith("exp: engines are up after ")
    assert lines[2].startswith("exp: round 1, 16/160 queries, ")
    assert lines[3].startswith("exp: round 10, 160/160 queries, ")
    assert "left" in lines[2]
    assert "left" not in lines[3]
    assert len(lines) == 4


def test_a_terminal_shows_life_before_the_first_round() -> None:
    console = TextConsole(file=io.StringIO(), force_terminal=True, width=120)
    display = Progress("exp", {}, console, live=True)
    trial: Any = FakeTrial("a")
    display.setup(total_num_samples=1)
    display.on_step_begin(trials=[trial])
    console.print(display._display())
    display.on_trial_start(trial=trial)
    console.print(display._display())
    display.on_trial_result(trial=trial, result=toy_result(1))
    console.print(display._display())
    display.on_experiment_end()
    text = shown(console)
    for expected in (
        "starting engines, 0 s",
        "round 1, 0 s",
        "round 2, 0 s",
        "16/160 queries",
        "0.578 [0.456, 0.692]",
        "propose 9.1, erm 0.5, policy 11.2",
        "about 3 min 12 s",
    ):
        assert expected in text


def test_several_trials_have_a_line_each() -> None:
    console = TextConsole(file=io.StringIO(), force_terminal=True, width=120)
    display = Progress("exp", {}, console, live=True)
    trials: list[Any] = [
        FakeTrial("a", "0_beta=0.1", {"beta": 0.1}),
        FakeTrial("b", "1_beta=0.2", {"beta": 0.2}),
    ]
    display.setup(total_num_samples=2)
    display.on_step_begin(trials=trials)
    display.on_trial_result(trial=trials[0], result=toy_result(1))
    display.on_trial_error(trial=trials[1])
    display.on_experiment_end()
    console = TextConsole(file=io.StringIO(), width=120)
    console.print(display._display())
    first, second = shown(console).splitlines()[-2:]
    assert first.split()[:3] == ["0", "beta=0.1", "16/160"]
    assert "3 min 12 s" in first
    assert second.split() == ["1", "beta=0.2", "failed"]


def test_a_trial_is_named_by_the_whole_path_of_what_is_searched() -> None:
    trial: Any = FakeTrial(
        "a", "3_loss=ipo,1=0.7000", {"loss": "ipo", "gamma/2/1": 0.7, "beta": 1 / 3}
    )
    assert trial_label("exp", trial, alone=False) == "exp 3 loss=ipo, gamma/2/1=0.7, beta=0.3333"
    assert trial_label("exp", trial, alone=True) == "exp"
    trial = FakeTrial("b")  # num_samples without a search
    assert trial_label("exp", trial, alone=False) == "exp 0"


def test_a_resumed_trial_goes_on_counting() -> None:
    console = TextConsole(file=io.StringIO())
    display = Progress("exp", {}, console, live=False)
    trial: Any = FakeTrial("a")
    trial.last_result = toy_result(4)
    display.setup(total_num_samples=1)
    display.on_step_begin(trials=[trial])
    display.on_trial_result(trial=trial, result=toy_result(5))
    # One round of 16 queries, not one of 80.
    assert f"about {duration_text((BUDGET - 80) / 16 * 21.3)} left" in shown(console)


@pytest.mark.parametrize("alone", [False, True])
def test_brackets_in_names_are_text_in_the_live_display(alone: bool) -> None:
    console = TextConsole(file=io.StringIO(), force_terminal=True, width=160)
    display = Progress("[/exp] [red]", {}, console, live=True)
    trials: list[Any] = [
        FakeTrial("a", "0_t", {"env_config/template": "[[{title}]][/b]"}),
        FakeTrial("b", "1_t", {"env_config/template": "[bold]{post}"}),
    ]
    display.setup(total_num_samples=1 if alone else 2)
    display.on_step_begin(trials=trials[: 1 if alone else 2])
    result = toy_result(1) | {"warnings": "a [/warning]"}
    display.on_trial_result(trial=trials[0], result=result)
    console.print(display._display())
    display.on_experiment_end()
    assert "[/exp] [red]" in shown(console)
    assert "a [/warning]" in shown(console)
    assert alone or ("[[{title}]][/b]" in shown(console) and "[bold]{post}" in shown(console))
