"""Whole runs by the command: two at once, and one that everything happens to."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import text_duel
from rllib_sea.preference_log.lock import writer_of
from rllib_sea.preference_log.log import LOG_FILE, PreferenceReader
from rllib_sea.preference_log.records import LogEntry
from tests.helpers.killed_runs import NAME, TrainCommand, write_recipe
from tests.helpers.sea_runs import IN_PROCESS, asked, measured
from tests.helpers.small_disk import SmallDisk

BUDGET = 44
ROUNDS = 6
RETRIES = 2
ROOT = Path(__file__).resolve().parent.parent


def recipe(folder: Path, policy: Path, **config: Any) -> None:
    settings = {
        "query_budget": BUDGET,
        "oracle_retries": RETRIES,
        "oracle_retry_wait_s": 0.5,
        "oracle_timeout_s": 5.0,
    }
    oracle_config = {"folder": str(folder)}
    write_recipe(
        folder, policy, "tests.helpers.away_oracle:AwayOracle", oracle_config, **settings, **config
    )


def train(folder: Path, *options: str, **how: Any) -> TrainCommand:
    return TrainCommand(folder, options, import_path=[ROOT], **how)


def logged(trial: Path) -> list[LogEntry]:
    with PreferenceReader(trial / LOG_FILE) as log:
        return list(log.read())


def rows(trial: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]


def as_answered(entry: LogEntry) -> str:
    question = entry.question
    return f"{question.prompt_id} {question.first.text!r} {question.second.text!r}"


def answered(folder: Path) -> list[str]:
    """What the oracle answered, without the evaluation's questions."""
    training = {prompt.id for prompt in text_duel.load_prompts("tldr_mini")}
    file = folder / "answered"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in lines if line.split()[0] in training]


@pytest.fixture(scope="module")
def at_once(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run, and beside it a search with two trials, one of which is that run again.

    The search's trials sample and train in their own processes, which gives the same numbers.
    """
    folders = {name: tmp_path_factory.mktemp(name) for name in ("run", "search", "home")}
    recipe(folders["run"], tiny_policy)
    recipe(folders["search"], tiny_policy, seed={"grid_search": [3, 4]}, **IN_PROCESS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folders["home"]))
        with train(folders["run"]) as run, train(folders["search"], num_cpus=4) as search:
            for command in (run, search):
                assert command.wait(500) == 0, command.output
            assert "2 trials, at most 2 at once" in search.output
    (alone,) = (folders["run"] / NAME).glob("SEA_*")
    trials = {rows(trial)[0]["config"]["seed"]: trial for trial in _trials(folders["search"])}
    return {"folders": folders, "alone": alone, "same": trials[3], "other": trials[4]}


def _trials(folder: Path) -> list[Path]:
    return sorted((folder / NAME).glob("SEA_*"))


@pytest.mark.timeout(900)
def test_runs_at_once_are_each_as_if_alone(at_once: dict[str, Any]) -> None:
    alone, same, other = (measured(rows(at_once[name])) for name in ("alone", "same", "other"))
    assert len(alone) == ROUNDS
    assert alone == same != other
    assert asked(logged(at_once["alone"])) == asked(logged(at_once["same"]))


def test_runs_at_once_write_to_their_own_folders(at_once: dict[str, Any]) -> None:
    for name in ("alone", "same", "other"):
        trial = at_once[name]
        with PreferenceReader(trial / LOG_FILE) as log:
            assert [run.run_id for run in log.runs()] == [trial.name]
            assert log.num_answered() == BUDGET
        assert not (trial / "train").exists(), "the Ray Train run's folder"
        assert len(list(trial.glob("checkpoint_*"))) == 2
        assert (trial / "sample_duels.md").read_text().count("# Round") == 2 * ROUNDS
        assert (trial / "report.html").is_file()
    home = at_once["folders"]["home"]
    ray_token = home / ".ray" / "auth_token"
    assert [path for path in home.rglob("*") if path.is_file() and path != ray_token] == []


def wait_until(condition: Callable[[], bool], command: TrainCommand) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, command.output
        time.sleep(0.005)


# Several commands, each of which starts Ray and engines: minutes on a slow CPU.
@pytest.mark.timeout(900)
def test_a_run_that_everything_happens_to(
    at_once: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    """Kills of single processes are in `test_faults.py`: here the trial is one."""
    recipe(tmp_path, tiny_policy, **IN_PROCESS)
    away, silent = tmp_path / "away", tmp_path / "silent"
    with ExitStack() as stack:
        disk = None
        try:
            disk = stack.enter_context(SmallDisk(tmp_path / NAME, 128))
        except OSError:
            warnings.warn("no user namespaces here: no disk gets full", stacklevel=1)
            (tmp_path / NAME).rmdir()
        where = disk.path if disk else tmp_path / NAME
        how = {"prefix": disk.prefix if disk else ()}

        def now(name: str) -> Path:
            """A copy of the trial's files: a log is read where there is room for its index."""
            (trial,) = where.glob("SEA_*")
            (tmp_path / name).mkdir()
            for file in (*trial.glob(f"{LOG_FILE}*"), trial / "result.json"):
                shutil.copy(file, tmp_path / name)
            return tmp_path / name

        # The oracle raises once, then is silent; then all processes are killed.
        away.write_text("1")
        with train(tmp_path, **how) as command:
            assert command.wait_for("round 1,", 300), command.output
            assert "nobody is there; asking again in 0.5 s (1 of 2)" in command.output
            silent.write_text("100")
            assert command.wait_for("oracle away did not answer within 5 s", 300), command.output
            assert command.wait_for("(oracle_timeout_s); asking again in 0.5 s", 5)
            assert command.kill() == []
        assert not silent.exists()
        log = logged(now("killed"))
        again = {as_answered(entry) for entry in log if entry.label is None}
        given = {as_answered(entry): entry.verdicts for entry in log if entry.verdicts}
        assert 8 <= len(given) < BUDGET

        # It is away for longer than all retries.
        away.write_text("1000")
        with train(tmp_path, "--resume", **how) as command:
            assert command.wait(300) == 1, command.output
        assert "the run stops, `--resume` goes on with it once" in command.output
        assert "OracleAwayError: oracle away could not answer" in command.output
        log = logged(now("away-for-good"))
        pending = [entry for entry in log if entry.label is None]
        assert {entry.question.round for entry in pending} == {log[-1].question.round}
        assert len(list(where.glob("SEA_*/checkpoint_*"))) == 2
        num_answered = len(answered(tmp_path))

        # It answers, and the disk is full.
        if disk is not None:
            away.write_text("1000")
            with train(tmp_path, "--resume", **how) as command:
                wait_until(lambda: away.read_text() not in ("", "1000"), command)
                disk.fill()
                away.unlink()
                assert command.wait(300) == 1, command.output
            (trial,) = where.glob("SEA_*")
            line = f"preference log {tmp_path / NAME / trial.name / LOG_FILE}: the disk is full: "
            assert f"PreferenceLogError: {line}nothing was written" in command.output
            full = now("full")
            connection = sqlite3.connect(full / LOG_FILE)
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.close()
            assert asked(logged(full)) == asked(log)
            # Those whose answers could not be written are asked again, once there is room.
            assert num_answered < len(answered(tmp_path)) <= num_answered + len(pending)
            again |= set(map(as_answered, pending))
            disk.make_room()
        away.unlink(missing_ok=True)

        # Its last checkpoint is damaged. It goes on; who starts it a second time is refused.
        damaged = max(where.glob("SEA_*/checkpoint_*"))
        os.truncate(damaged / "policy" / "model.safetensors", 100)
        (trial,) = where.glob("SEA_*")
        with train(tmp_path, "--resume", **how) as command:
            wait_until(lambda: writer_of(trial / LOG_FILE) is not None, command)
            # Held, since its last rounds take less than a second start.
            with command.paused("ray::SEA"), train(tmp_path, "--resume", **how) as second:
                assert second.wait(150) == 2, second.output
                (line,) = second.output.splitlines()
                assert "--resume: the run goes on: process" in line
                assert LOG_FILE in line
            assert command.wait(300) == 0, command.output
        wrong = f"{damaged.name} is damaged: policy/model.safetensors has 100 bytes"
        assert f"{wrong}, " in command.output
        assert "; the run goes on from checkpoint_" in command.output
        assert f"finished after {BUDGET} queries, {ROUNDS} rounds" in command.output
        end = now("end")

    log = logged(end)
    assert len(log) == len({(e.question.round, e.question.position) for e in log}) == BUDGET
    assert {as_answered(e): e.verdicts for e in log if as_answered(e) in given} == given
    times = Counter(answered(tmp_path))
    assert set(times) == set(map(as_answered, log))
    assert {question for question, n in times.items() if n > 1} <= again
    # The round in which the oracle was away has a result, too, of which nothing was learned.
    done = [row for row in rows(end) if row["policy"]]
    assert measured(done) == measured(rows(at_once["alone"]))
    assert asked(log) == asked(logged(at_once["alone"]))
