"""What a run survives: each fault is really caused."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from sea_runs import curve, tiny_config

from rllib_sea import SEA
from rllib_sea.duels.preference_log import LOG_FILE, PreferenceReader
from rllib_sea.runner_calls import OracleAwayError


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def config(policy: Path, oracle_folder: Path, **changes: Any) -> Any:
    """Labels by an oracle that keeps a record of what it was asked; it measures nothing."""
    return tiny_config(
        policy,
        **{
            "env_config": {
                "prompts": "tldr_mini",
                "oracle": "tests.away_oracle:AwayOracle",
                "oracle_config": {"folder": str(oracle_folder)},
            },
            "measure_online_win_rate": False,
            "evaluation_interval": 100,
            "query_budget": 32,
            "gamma": 0.7,
            "oracle_retry_wait_s": 0.01,
        }
        | changes,
    )


def answered(folder: Path) -> list[str]:
    file = folder / "answered"
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(scope="module")
def unbroken(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three rounds that nothing happens to; a checkpoint after the first, the log at the end."""
    folder = tmp_path_factory.mktemp("unbroken")
    algorithm = config(tiny_policy, folder).build_algo()
    try:
        results = [algorithm.train()]
        checkpoint = Path(algorithm.save_to_path(folder / "checkpoint"))
        results += [algorithm.train(), algorithm.train()]
        log = folder / LOG_FILE
        algorithm._preferences.copy_to(log)
        duels = (algorithm.folder / "sample_duels.md").read_text()
    finally:
        algorithm.stop()
    return {
        "results": results,
        "checkpoint": checkpoint,
        "log": log,
        "duels": duels,
        "answered": answered(folder),
        "folder": folder,
    }


def test_every_answer_is_in_the_log_and_in_the_count(unbroken: dict[str, Any]) -> None:
    with PreferenceReader(unbroken["log"]) as log:
        entries = list(log.read())
    last = unbroken["results"][-1]
    assert len(entries) == last["num_oracle_queries"] == len(unbroken["answered"])
    assert all(entry.answer is not None for entry in entries)
    assert {entry.question.oracle for entry in entries} == {"away"}
    assert {entry.question.round for entry in entries} == {0, 1, 2}
    asked = [
        f"{e.question.prompt_id} {e.question.first.text!r} {e.question.second.text!r}"
        for e in entries
    ]
    assert sorted(asked) == sorted(unbroken["answered"])


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(unbroken: dict[str, Any]) -> None:
    """From the checkpoint alone: the rounds after it are asked again, and are the same."""
    before = len(answered(unbroken["folder"]))
    algorithm = SEA.from_checkpoint(str(unbroken["checkpoint"]))
    try:
        results = [algorithm.train(), algorithm.train()]
    finally:
        algorithm.stop()
    assert curve(results) == curve(unbroken["results"][1:])
    asked = answered(unbroken["folder"])[before:]
    assert asked == unbroken["answered"][-len(asked) :]


def test_answers_after_the_checkpoint_are_taken_from_the_log(
    unbroken: dict[str, Any], tmp_path: Path
) -> None:
    """As where the process was killed after its third round: the log is further than the rest."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(unbroken["checkpoint"], checkpoint)
    shutil.copy(unbroken["log"], checkpoint / LOG_FILE)
    before = answered(unbroken["folder"])
    algorithm = SEA.from_checkpoint(str(checkpoint))
    try:
        results = [algorithm.train(), algorithm.train()]
        assert answered(unbroken["folder"]) == before, "no question is asked twice"
        algorithm.train()
        assert len(answered(unbroken["folder"])) > len(before)
    finally:
        algorithm.stop()
    assert curve(results) == curve(unbroken["results"][1:])


def test_a_run_waits_for_an_oracle_that_is_away(
    unbroken: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    algorithm = config(tiny_policy, tmp_path, oracle_retries=3).build_algo()
    try:
        results = [algorithm.train()]
        (tmp_path / "away").write_text("2")
        results.append(algorithm.train())
        assert results[1]["warnings"].count("nobody is there") == 2
        assert "asking again in 0.02 s (2 of 3)" in results[1]["warnings"]

        (tmp_path / "away").write_text("100")
        with pytest.raises(OracleAwayError, match="nobody is there"):
            algorithm.train()
        pending = algorithm._preferences.pending()
        assert {entry.question.round for entry in pending} == {2}
        # The oracle is back: the round is tried again, the same questions are answered.
        (tmp_path / "away").unlink()
        results.append(algorithm.train())
        assert algorithm._preferences.pending() == []
    finally:
        algorithm.stop()
    assert curve(results) == curve(unbroken["results"])
    assert answered(tmp_path) == unbroken["answered"]


def test_an_env_runner_killed_in_the_middle_of_its_work_changes_nothing(
    unbroken: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    algorithm = config(tiny_policy, tmp_path).build_algo()
    try:
        results = [algorithm.train()]
        (process,) = algorithm.env_runner_group.foreach_env_runner(
            "process_id", local_env_runner=False
        )

        def kill() -> None:
            time.sleep(0.05)
            os.kill(process, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        results += [algorithm.train(), algorithm.train()]
        killer.join()
    finally:
        algorithm.stop()
    assert curve(results) == curve(unbroken["results"])
    assert answered(tmp_path) == unbroken["answered"]
