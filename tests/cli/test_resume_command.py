"""What `--resume` refuses, and what it does to an earlier run's results."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_sea import SEAConfig
from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.results_files import add_row, cut_results
from rllib_sea.cli.resume import check_resumable
from rllib_sea.policy.prompt_identity import Fingerprint
from rllib_sea.policy.prompts_record import record_prompts
from rllib_sea.preference_log.lock import WriterLock
from rllib_sea.preference_log.log import LOG_FILE
from text_duel.errors import ConfigError


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    folder = tmp_path / "tiny"
    (folder / "SEA_1" / "checkpoint_000003").mkdir(parents=True)
    (folder / "experiment_state-2026-01-02.json").write_text('{"trial_data": []}')
    return SimpleNamespace(folder=folder, name="tiny", is_sea=True)


def test_a_state_that_was_cut_short_is_one_line(experiment: Any) -> None:
    state = experiment.folder / "experiment_state-2026-01-02.json"
    os.truncate(state, 10)
    with pytest.raises(ConfigError, match="was cut short") as error:
        check_resumable(experiment, TextConsole())
    assert str(state) in str(error.value)
    assert f"--restore {experiment.folder / 'SEA_1' / 'checkpoint_000003'}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_still_runs_is_not_resumed(experiment: Any) -> None:
    log = experiment.folder / "SEA_1" / LOG_FILE
    log.touch()
    check_resumable(experiment, TextConsole())
    lock = WriterLock(log)
    with pytest.raises(ConfigError, match=f"the run goes on: process {os.getpid()} writes to"):
        check_resumable(experiment, TextConsole())
    lock.release()
    check_resumable(experiment, TextConsole())


def test_other_prompts_are_refused_before_ray_starts(
    experiment: Any, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the trial's own configuration: that of a resumed run is Tune's, not the recipe's."""
    run, file = experiment.folder / "SEA_1", tmp_path / "mine.jsonl"
    rows = [json.dumps({"post": f"post {i}", "summary": "a"}) + "\n" for i in range(30)]
    file.write_text("".join(rows))
    written = {"policy_model": str(tiny_policy), "query_budget": 8}
    written["env_config"] = {"prompts": str(file), "oracle": "length"}
    trial = SimpleNamespace(config=written, path=str(run), status="PENDING", checkpoint=None)
    analysis = SimpleNamespace(trials=[trial])
    monkeypatch.setattr("rllib_sea.cli.resume.ExperimentAnalysis", lambda folder: analysis)
    prompts = SEAConfig.from_user_dict(written).read_prompts()
    record_prompts(run, Fingerprint.of(prompts.training, prompts.held_out))
    check_resumable(experiment, TextConsole())
    file.write_text("".join(reversed(rows)))
    with pytest.raises(ConfigError, match="training prompts stand in another order") as error:
        check_resumable(experiment, TextConsole())
    assert f"--restore {run / 'checkpoint_000003'}" in str(error.value)
    trial.status = "TERMINATED"
    check_resumable(experiment, TextConsole())


def test_rows_that_come_again_are_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    rows = [json.dumps({"training_iteration": n, "text": "é"}) + "\n" for n in (1, 2, 3, 4)]
    file.write_text("".join(rows) + '{"training_iteration": 5, "te')  # the process died here
    cut_results(file, 6)
    assert file.read_text() == "".join(rows)
    cut_results(file, 3)
    assert file.read_text() == "".join(rows[:2])
    cut_results(file, 1)
    assert file.read_text() == ""


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def test_a_table_has_the_columns_of_all_rounds_and_every_round_once(tmp_path: Path) -> None:
    file = tmp_path / "progress.csv"

    def row(iteration: int, **values: Any) -> dict[str, Any]:
        return {"training_iteration": iteration, "loss": iteration / 10, **values}

    columns = None
    for one in (row(1), row(2, **{"evaluation/kl": 0.5}), row(3, warnings='a "line"\nand another')):
        columns = add_row(file, one, columns)
    assert columns == ["training_iteration", "loss", "evaluation/kl", "warnings"]
    assert [r["evaluation/kl"] for r in rows(file)] == ["", "0.5", ""]
    assert rows(file)[2]["warnings"] == 'a "line"\nand another'
    # A process died in its last row; another goes on after the checkpoint of round 1.
    with file.open("a") as table:
        table.write("4,0")
    add_row(file, row(2, lr=1.0), None)
    assert rows(file) == [
        {"training_iteration": "1", "loss": "0.1", "evaluation/kl": "", "warnings": "", "lr": ""},
        {
            "training_iteration": "2",
            "loss": "0.2",
            "evaluation/kl": "",
            "warnings": "",
            "lr": "1.0",
        },
    ]
    assert list(tmp_path.iterdir()) == [file]
