"""The plumbing to Tune, with a toy trainable."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

CPUS = ("--ray-num-cpus", "2")


STARTS_A_CLUSTER = """
import ray, sys
context = ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster, which commands join in less time than they start their own."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_A_CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


@pytest.fixture
def joining(rllib: Any, cluster: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, joining the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    return rllib


def trial_folders(storage: Path, name: str = "Toy") -> list[Path]:
    return sorted(path for path in (storage / name).iterdir() if path.is_dir())


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]


def toy_file(folder: Path, stop: int = 10, keep: int | None = None, **config: Any) -> Path:
    """A file with an experiment that writes a checkpoint a round."""
    spec = {
        "run": "Toy",
        "stop": {"round": stop},
        "config": config,
        "checkpoint_config": {"checkpoint_frequency": 1, "num_to_keep": keep},
        "storage_path": str(folder),
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump({"Toy": spec}))
    return folder / "toy.yaml"


def test_a_run_and_its_summary(rllib: Any, tmp_path: Path) -> None:
    outcome = rllib("train", "file", toy_file(tmp_path, stop=5, keep=2), *CPUS)
    assert outcome.status == 0
    (folder,) = trial_folders(tmp_path)
    assert [result["round"] for result in results(folder)] == [1, 2, 3, 4, 5]
    # Relative paths in a configuration mean the same to the workers.
    assert {result["folder"] for result in results(folder)} == {os.getcwd()}
    kept = sorted(path.name for path in folder.glob("checkpoint_*"))
    assert kept == ["checkpoint_000003", "checkpoint_000004"]
    assert list(folder.glob("events.out.tfevents*"))
    assert (folder / "progress.csv").is_file()

    lines = outcome.out.splitlines()
    assert lines[0] == "Toy: starting engines"
    assert [line.split(",")[0] for line in lines if line.startswith("Toy: round")] == [
        f"Toy: round {n}" for n in range(1, 6)
    ]
    assert "Toy: finished after 80 queries, 5 rounds" in outcome.out
    assert re.search(r"win rate vs initial +0\.578 \[0\.456, 0\.692\]", outcome.out)
    assert f"{folder}/checkpoint_000004/policy (transformers" in outcome.out
    assert f"tensorboard --logdir {tmp_path}/Toy" in outcome.out
    # Neither Tune's tables nor Ray's logs.
    assert "╭" not in outcome.out
    assert "INFO" not in outcome.out + outcome.err


def test_what_a_trial_tells_in_the_middle_of_a_round_is_shown(joining: Any, tmp_path: Path) -> None:
    """No result has it, so that it is not shown with one."""
    outcome = joining("train", "file", toy_file(tmp_path, stop=1, waits=True, seconds=4.0))
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines.index("Toy: waiting for somebody") < next(
        i for i, line in enumerate(lines) if line.startswith("Toy: round 1")
    )


def test_failures_end_with_status_1_and_can_be_resumed(joining: Any, tmp_path: Path) -> None:
    config = {
        "fail_at": 3,
        "fail_unless": str(tmp_path / "mended"),
        "quality": {"grid_search": [1, 2]},
    }
    arguments = ("train", "file", toy_file(tmp_path, stop=4, **config))
    outcome = joining(*arguments)
    assert outcome.status == 1
    folders = trial_folders(tmp_path)
    assert len(folders) == 2
    for folder in folders:
        assert f"{folder}/error.txt" in outcome.out
        assert "the toy broke at step 3" in (folder / "error.txt").read_text()
    # Once a trial, in a few lines.
    assert outcome.out.count("RuntimeError: the toy broke at step 3") == 2
    assert "Traceback" not in outcome.out + outcome.err

    (tmp_path / "mended").touch()
    outcome = joining(*arguments, "--resume")
    assert outcome.status == 0
    for folder in folders:
        # From the checkpoint of round 2, in the same folder.
        assert [result["round"] for result in results(folder)] == [1, 2, 3, 4]
        with (folder / "progress.csv").open(newline="") as table:
            assert [row["round"] for row in csv.DictReader(table)] == ["1", "2", "3", "4"]


def test_a_trial_that_failed_as_it_saved_is_resumed_to_its_end(
    joining: Any, tmp_path: Path
) -> None:
    config = {"fail_to_save_at": 3, "fail_unless": str(tmp_path / "mended")}
    arguments = ("train", "file", toy_file(tmp_path, stop=5, **config))
    outcome = joining(*arguments)
    assert outcome.status == 1
    assert "OSError: no space left on the toy's disk" in outcome.out
    (tmp_path / "mended").touch()
    outcome = joining(*arguments, "--resume")
    assert outcome.status == 0
    (folder,) = trial_folders(tmp_path)
    # Round 3 was done, and comes again: it is there once.
    assert [result["round"] for result in results(folder)] == [1, 2, 3, 4, 5]


def test_a_failure_in_setup_is_shown_without_its_traceback(joining: Any, tmp_path: Path) -> None:
    outcome = joining(
        *("train", "--run", "Toy", "--storage-path", tmp_path),
        *("--config", "{fail_at: 0}"),
    )
    assert outcome.status == 1
    assert "Toy: failed\n" in outcome.out
    assert "  RuntimeError: the toy broke as it was set up\n  and says why\n" in outcome.out
    assert outcome.out.count("the toy broke") == 1
    assert "Traceback" not in outcome.out + outcome.err


def test_restore_starts_a_new_run_from_a_checkpoint(joining: Any, tmp_path: Path) -> None:
    arguments = ("train", "file", toy_file(tmp_path, stop=2))
    assert joining(*arguments).status == 0
    (folder,) = trial_folders(tmp_path)
    outcome = joining(
        *(*arguments, "--experiment-name", "second", "--stop", "{round: 4}"),
        *("--restore", folder / "checkpoint_000001"),
    )
    assert outcome.status == 0
    (second,) = trial_folders(tmp_path, "second")
    assert [result["round"] for result in results(second)] == [3, 4]


def test_experiments_of_a_file_run_in_turn_with_their_own_schedulers(
    rllib: Any, tmp_path: Path
) -> None:
    file = tmp_path / "two.yaml"
    halving = {
        "metric": "quality",
        "mode": "max",
        "grace_period": 1,
        "reduction_factor": 2,
        "max_t": 6,
    }
    search = {
        "run": "Toy",
        "stop": {"round": 6},
        # One after the other, the best first: the worse ones are cut short.
        "config": {"quality": {"grid_search": [3, 2, 1]}, "seconds": {"grid_search": [0]}},
        "scheduler": "async_hyperband",
        "scheduler_config": halving,
    }
    plain = {"run": "Toy", "stop": {"round": 2}, "num_samples": 2}
    file.write_text(yaml.safe_dump({"search": search, "plain": plain}, sort_keys=False))
    outcome = rllib("train", "file", file, "--storage-path", tmp_path, "--ray-num-cpus", "1")
    assert outcome.status == 0
    assert outcome.out.startswith("search: 3 trials\n")
    rounds = [len(results(folder)) for folder in trial_folders(tmp_path, "search")]
    assert rounds[0] == 6
    assert max(rounds[1:]) < 6
    assert [len(results(folder)) for folder in trial_folders(tmp_path, "plain")] == [2, 2]
    with (tmp_path / "search" / "search.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["config/quality"], row["status"]) for row in rows] == [
        (quality, "terminated") for quality in ("3", "2", "1")
    ]
    assert float(rows[0]["quality"]) == 18.0
    assert "search: 3 trials by quality" in outcome.out
    assert f"Heat map: {tmp_path}/search/search.png" in outcome.out
    assert (tmp_path / "search" / "search.png").is_file()
    assert not (tmp_path / "plain" / "search.csv").exists()
    assert outcome.out.index("search 2 quality=1, seconds=0: finished") < outcome.out.index(
        "plain 0"
    )


def test_resume_starts_the_experiments_whose_turn_had_not_come(
    joining: Any, tmp_path: Path
) -> None:
    spec = {"run": "Toy", "stop": {"round": 2}}
    arguments = ("--storage-path", tmp_path)
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump({"first": spec}))
    assert joining("train", "file", file, *arguments).status == 0
    file.write_text(yaml.safe_dump({"first": spec, "second": spec}))
    assert joining("train", "file", file, *arguments, "--resume").status == 0
    for name in ("first", "second"):
        (folder,) = trial_folders(tmp_path, name)
        assert [result["round"] for result in results(folder)] == [1, 2]


def test_a_trial_that_does_not_fit_is_refused(
    rllib: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.tune.run", lambda *args, **kwargs: pytest.fail("a trial was started"))
    config = "{query_budget: 8, prompts_per_round: 4, sampler: transformers, num_train_workers: 3}"
    outcome = rllib(
        *("train", "--run", "SEA", "--config", config, "--storage-path", tmp_path),
        *("--ray-num-cpus", "2"),
    )
    assert outcome.status == 2
    assert outcome.err == (
        "rllib: SEA: one trial needs 4 CPUs (algorithm, env runners, learners and training "
        "workers), the cluster has 2\n"
    )
    assert not ray.is_initialized()


def test_ctrl_c_keeps_the_run_for_resume(joining: Any, tmp_path: Path) -> None:
    arguments = ("train", "file", str(toy_file(tmp_path, seconds=0.5)))
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "toy.py"), *arguments, *CPUS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_ADDRESS": "", "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        out = ""
        for line in process.stdout:
            out += line
            if line.startswith("Toy: round 2"):
                process.send_signal(signal.SIGINT)
                break
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Stopping" in rest
    assert "--resume" in rest
    assert "Toy: stopped after " in rest
    assert "finished" not in rest
    assert "Traceback" not in err
    (folder,) = trial_folders(tmp_path)
    before = len(results(folder))
    assert before < 10

    outcome = joining(*arguments, "--resume")
    assert outcome.status == 0
    # No round is lost, and none stands there twice.
    assert [result["round"] for result in results(folder)] == list(range(1, 11))
