"""Reports at the end of an experiment: of each trial, and of all side by side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.report import write_reports
from rllib_sea.cli.summary import print_summary
from tests.helpers.written_runs import write_run


class FakeTrial:
    """What a summary asks a trial of Tune for."""

    status = Trial.TERMINATED
    checkpoint = None
    last_result: dict[str, Any] = {"num_oracle_queries": 8, "round": 2}  # noqa: RUF012
    evaluated_params: dict[str, Any] = {}  # noqa: RUF012
    experiment_tag = "0"

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def said(experiment: Any, trials: list[Any], *, interrupted: bool = False) -> str:
    with TextConsole(record=True, file=open("/dev/null", "w"), width=80) as console:
        write_reports(console, experiment, trials)
        print_summary(console, "mine", trials, interrupted=interrupted)
    return console.export_text()


def experiment(folder: Path | None, *, is_sea: bool = True) -> Any:
    return SimpleNamespace(folder=folder, is_sea=is_sea)


def test_each_trial_has_a_page_and_a_search_one_more(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, 2, gamma=i) for i, name in enumerate(("SEA_0", "SEA_1"))]
    never_started = tmp_path / "SEA_2"
    trials = [FakeTrial(folder) for folder in (*folders, never_started)]
    text = said(experiment(tmp_path), trials)
    for folder in (*folders, tmp_path):
        assert (folder / "report.html").is_file()
        assert f"{folder}/report.html" in text
    assert "No report" not in text
    assert "2 runs side by side" in (tmp_path / "report.html").read_text()


def test_of_runs_that_were_stopped_those_that_were_done_are_finished(tmp_path: Path) -> None:
    trials = [FakeTrial(write_run(tmp_path / name, 2)) for name in ("SEA_0", "SEA_1")]
    trials[0].last_result = trials[0].last_result | {"done": True}
    text = said(experiment(tmp_path), trials, interrupted=True)
    assert text.count(": finished after 8 queries") == text.count(": stopped after 8 queries") == 1
    assert said(experiment(tmp_path), trials).count(": finished after") == 2


def test_one_trial_has_one_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "SEA_0", 2)
    text = said(experiment(tmp_path), [FakeTrial(folder)])
    assert f"report                     {folder}/report.html" in text
    assert not (tmp_path / "report.html").exists()


def test_what_cannot_be_reported_is_said_and_the_summary_stands(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "SEA_0", 2)
    (folder / "report.html").mkdir()
    text = said(experiment(tmp_path), [FakeTrial(folder)])
    assert f"No report {folder}/report.html: ConfigError: report {folder}/report.html: Is a" in text
    assert "finished after 8 queries" in text
    text = said(experiment(None), [FakeTrial(folder)])
    assert "No report: the results are not on a local disk" in text
    assert "No report" not in said(experiment(tmp_path, is_sea=False), [FakeTrial(folder)])
