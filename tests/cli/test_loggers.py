"""Loggers beside a run's files: MLflow and Weights & Biases, each with its own store."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml
from mlflow import MlflowClient
from ray.tune import Callback
from wandb.proto import wandb_internal_pb2

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.loggers import _Guarded, check_loggers, logger_callbacks
from text_duel.errors import ConfigError

CPUS = ("--ray-num-cpus", "2")
SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    # The commands set these for their process.
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def experiment(folder: Path, config: dict[str, Any], **loggers: Any) -> Path:
    """A file with an experiment of four rounds."""
    spec = {
        "run": "Toy",
        "stop": {"round": 4},
        "config": config,
        "checkpoint_config": {"checkpoint_frequency": 1},
        "storage_path": str(folder / "results"),
        "loggers": loggers,
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump({"mine": spec}))
    return folder / "toy.yaml"


def wandb_history(run: Path) -> list[dict[str, Any]]:
    """The rows of an offline run."""
    (file,) = run.glob("run-*.wandb")
    rows = []
    for data in leveldb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append(
                {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
            )
    return rows


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind a header of 7 bytes."""
    place, record = 7, b""
    while place + 7 <= len(content):
        if (left := -place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def test_metrics_reach_both_stores_under_their_names_through_a_failure_and_its_resume(
    rllib: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    sessions: list[Path] = []
    init = ray.init

    def noted(**options: Any) -> Any:
        context = init(**options)
        sessions.append(Path(context.address_info["session_dir"]))
        return context

    monkeypatch.setattr(ray, "init", noted)
    store = (tmp_path / "store").as_uri()
    file = experiment(
        tmp_path,
        {
            "quality": 2.0,
            "judge": {"api_key": "sesame"},
            "fail_at": 3,
            "fail_unless": str(tmp_path / "mended"),
        },
        mlflow={"tracking_uri": store, "tags": {"team": "summaries"}},
        wandb={"project": "sums", "mode": "offline"},
    )
    outcome = rllib("train", "file", file, *CPUS)
    assert outcome.status == 1
    assert "not logged" not in outcome.out
    assert outcome.err == ""

    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["team"] == "summaries"
    assert run.data.params["judge/api_key"] == "(not shown)"
    assert run.data.params["quality"] == "2.0"
    metrics = run.data.metrics
    assert metrics["num_oracle_queries"] == 32
    assert metrics["evaluation/win_rate_vs_initial"] == 0.578125
    assert metrics["evaluation/win_rate_vs_initial_low"] == 0.456
    assert metrics["duels/online_win_rate"] == 0.45
    assert not [name for name in metrics if name.startswith("config")]

    (folder,) = (path for path in (tmp_path / "results" / "mine").iterdir() if path.is_dir())
    (offline,) = (folder / "wandb").glob("offline-run-*")
    rows = wandb_history(offline)
    assert [row["num_oracle_queries"] for row in rows] == [16, 32]
    assert rows[0]["evaluation/win_rate_vs_initial"] == 0.578125
    assert rows[0]["seconds/propose"] == 9.1

    (tmp_path / "mended").touch()
    assert rllib("train", "file", file, *CPUS, "--resume").status == 0
    # The same run goes on.
    (run,) = client.search_runs([run.info.experiment_id])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "round")
    assert [(m.step, m.value) for m in history] == [(n, n) for n in (1, 2, 3, 4)]
    (_, second) = sorted((folder / "wandb").glob("offline-run-*"))
    assert [row["round"] for row in wandb_history(second)] == [3, 4]

    # Neither in results nor in what Ray logs of its sessions.
    for place in (tmp_path, *(session / "logs" for session in sessions)):
        for path in place.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    # Nor are others that the settings have passed on.
    for place in (tmp_path / "store", folder / "wandb"):
        for path in place.rglob("*"):
            assert not path.is_file() or b"sesame" not in path.read_bytes(), path


class StoppedTrial:
    trial_id, config = "t1", {"quality": 1.0}


def test_a_run_that_is_stopped_is_killed_in_mlflow(tmp_path: Path) -> None:
    store = (tmp_path / "store").as_uri()
    options = {"tracking_uri": store, "tags": {"a": "b"}}
    experiment = SimpleNamespace(name="mine", spec={"loggers": {"mlflow": options}})
    (logger,) = logger_callbacks(experiment, TextConsole())  # type: ignore[arg-type]
    trial: Any = StoppedTrial()
    logger.setup()
    logger.log_trial_start(trial)
    logger.log_trial_result(1, trial, {"training_iteration": 1, "round": 1})
    logger.on_experiment_end([trial])
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.status, run.data.metrics["round"]) == ("KILLED", 1.0)
    assert options["tags"] == {"a": "b"}, "what the recipe says is left alone"


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"mlfow": {}}, "loggers: unknown logger 'mlfow' (did you mean 'mlflow'?); there are "),
        ({"mlflow": 3}, "loggers: mlflow: 3 is not a mapping of keys to values"),
        (
            {"mlflow": {"uri": "x"}},
            "loggers: mlflow: unknown key 'uri'; there are tracking_uri, registry_uri, ",
        ),
        ({"mlflow": {"tags": {"a": 1}}}, "loggers: mlflow: tags: {'a': 1} is not a mapping of "),
        ({"mlflow": {"save_artifact": 1}}, "loggers: mlflow: save_artifact: 1 is not true or "),
        ({"wandb": {"tags": "a"}}, "loggers: wandb: tags: 'a' is not a list of texts"),
        ({"wandb": {"mode": "off"}}, "loggers: wandb: mode: 'off' is none of online, offline, "),
        (
            {"wandb": {"api_key": SECRET}},
            "loggers: wandb: api_key: no secret stands in a recipe: set WANDB_API_KEY in ",
        ),
        (
            {"mlflow": {"tracking_token": SECRET}},
            "loggers: mlflow: tracking_token: no secret stands in a recipe: set MLFLOW_TRACKING_",
        ),
        (
            {"mlflow": {"tracking_uri": f"https://me:{SECRET}@host"}},
            "loggers: mlflow: tracking_uri: no secret stands in a recipe: set MLFLOW_TRACKING_USER",
        ),
        ({"wandb": {"project": "p"}}, "loggers: wandb: there is no key for https://"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(written: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_loggers(written)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_server_that_does_not_answer_is_found_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(ConfigError, match=r"^loggers: mlflow: \w+: .*127\.0\.0\.1"):
        check_loggers({"mlflow": {"tracking_uri": url}})
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", url)
    with pytest.raises(ConfigError, match=r"^loggers: wandb: \w+: ") as caught:
        check_loggers({"wandb": {}})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as caught:
        check_loggers({name: {}})
    assert str(caught.value) == (
        f"loggers: {name}: the package '{name}' is missing: pip install \"rllib-sea[{name}]\""
    )


class Broken(Callback):
    works = False

    def log_trial_result(self, iteration: int, trial: Any, result: Any) -> None:
        if not self.works:
            raise ConnectionError("no answer from\nhttps://me:secret@host/api")


def test_a_logger_that_breaks_says_so_once_and_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Broken()
    guarded = _Guarded("mlflow", broken, TextConsole())
    for works in (False, False, True, False):
        broken.works = works
        guarded.log_trial_result(1, None, {"config": {}})
    line = (
        "loggers: mlflow: not logged, and the run goes on: ConnectionError: no answer from "
        "https://host/api\n"
    )
    assert capsys.readouterr().out == 2 * line
