"""What a run survives, without the command: each fault is really caused."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from rllib_sea import SEA
from rllib_sea.duels.audit import Audit
from rllib_sea.labelling.asking import OracleAwayError
from tests.helpers.sea_runs import IN_PROCESSES, asked, measured, restore_beside, tiny_config

# Where a baseline differs from SEA, and after how many rounds its checkpoint is written. All of it
# is read in the Algorithm's own process, so that one running Algorithm can be any of them.
BASELINES: dict[str, tuple[int, dict[str, Any]]] = {
    # In the middle of an interval: the weights that sample are neither the first nor the last.
    "iterative": (3, {"exploration_strategy": "passive", "policy_sync_interval": 2}),
    "offline": (1, {"exploration_strategy": "passive", "policy_sync_interval": None}),
    "apl": (
        1,
        {"exploration_strategy": "apl", "prompt_acquisition": "entropy", "prompt_pool_size": 12},
    ),
}


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
                "oracle": "tests.helpers.away_oracle:AwayOracle",
                "oracle_config": {"folder": str(oracle_folder)},
            },
            "measure_online_win_rate": False,
            "evaluation_interval": 100,
            "query_budget": 48,
            "gamma": 0.7,
            "policy_replay": 1,
            "erm_prior_scale": 1.0,
            "erm_bootstrap": 0.5,
            "oracle_retries": 3,
            "oracle_retry_wait_s": 0.01,
        }
        | changes,
    )


def answered(folder: Path) -> list[str]:
    file = folder / "answered"
    return file.read_text().splitlines() if file.exists() else []


def train(algorithm: SEA, num_rounds: int) -> list[dict[str, Any]]:
    return [algorithm.train() for _ in range(num_rounds)]


@pytest.fixture(scope="module")
def sea(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A running SEA with a checkpoint of its start, and three rounds that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    algorithm = config(tiny_policy, folder).build_algo()
    try:
        start = Path(algorithm.save_to_path(folder / "start"))
        results = train(algorithm, 1)
        checkpoint = Path(algorithm.save_to_path(folder / "checkpoint"))
        results += train(algorithm, 2)
        yield {
            "algorithm": algorithm,
            "start": start,
            "checkpoint": checkpoint,
            "folder": folder,
            "results": results,
            "log": list(algorithm.labelling.log.read()),
            "answered": answered(folder),
        }
    finally:
        algorithm.stop()


def test_every_answer_is_in_the_log_and_in_the_count(sea: dict[str, Any]) -> None:
    log = sea["log"]
    assert len(log) == sea["results"][-1]["num_oracle_queries"] == len(sea["answered"])
    assert all(entry.label is not None for entry in log)
    assert {entry.question.oracle for entry in log} == {"away"}
    assert {entry.question.round for entry in log} == {0, 1, 2}
    lines = [
        f"{e.question.prompt_id} {e.question.first.text!r} {e.question.second.text!r}" for e in log
    ]
    assert sorted(lines) == sorted(sea["answered"])


def test_labels_are_used_again(sea: dict[str, Any]) -> None:
    results = sea["results"]
    assert [r["policy_steps"] for r in results] == [2, 4, 6]
    assert [r["policy"]["replay_loss"] > 0 for r in results] == [True] * 3
    ages = [r["policy"]["replay_age"] for r in results]
    assert ages[0] == 0.0
    assert all(0.0 <= age <= r["round"] for age, r in zip(ages, results, strict=True))
    assert ages[-1] > 0.0


def test_what_is_replayed_are_the_logs_pairs(sea: dict[str, Any]) -> None:
    """The oracle's winners are chosen, and none of the pairs that the ERM labelled is there."""
    labelling = sea["algorithm"].labelling
    assert sea["results"][-1]["num_synthetic_pairs"] > 0
    entries = [entry for entry in sea["log"] if entry.question.round < 2]
    found, rounds = labelling.pairs(labelling.learned(2))
    assert rounds == [entry.question.round for entry in entries]
    assert len(found) == len(entries)
    for pair, entry in zip(found, entries, strict=True):
        sides = {"first": entry.question.first, "second": entry.question.second}
        winner = sides.pop(entry.verdicts[0].verdict.choice)
        (loser,) = sides.values()
        assert pair.chosen_token_ids == winner.token_ids
        assert pair.rejected_token_ids == loser.token_ids
        assert pair.prompt_token_ids == entry.question.prompt_token_ids
        assert (pair.synthetic, pair.prompt_id) == (False, entry.question.prompt_id)


def test_answers_after_the_checkpoint_are_taken_from_the_log(sea: dict[str, Any]) -> None:
    """As where the process was killed after its third round: the log is further than the rest."""
    algorithm, before = sea["algorithm"], answered(sea["folder"])
    algorithm.restore_from_path(sea["checkpoint"])
    assert measured(train(algorithm, 2)) == measured(sea["results"][1:])
    assert answered(sea["folder"]) == before, "no question is asked twice"
    train(algorithm, 1)
    assert len(answered(sea["folder"])) > len(before)


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(sea: dict[str, Any]) -> None:
    """A new Algorithm, from the checkpoint alone: the rounds after it are asked again."""
    before = len(answered(sea["folder"]))
    algorithm = SEA.from_checkpoint(str(sea["checkpoint"]))
    try:
        assert measured(train(algorithm, 2)) == measured(sea["results"][1:])
        assert asked(algorithm.labelling.log.read()) == asked(sea["log"])
    finally:
        algorithm.stop()
    again = answered(sea["folder"])[before:]
    assert again == sea["answered"][-len(again) :]


@pytest.mark.parametrize("name", BASELINES)
def test_a_resumed_baseline_is_the_unbroken_one_to_the_bit(
    name: str, sea: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    num_before, changes = BASELINES[name]
    algorithm, own = sea["algorithm"], sea["algorithm"].config
    baseline = config(tiny_policy, sea["folder"], gamma=1.0, **changes)
    baseline.validate()
    (tmp_path / "resumed").mkdir()
    try:
        algorithm.config = baseline
        restore_beside(algorithm, sea["start"], tmp_path)
        train(algorithm, num_before)
        checkpoint = Path(algorithm.save_to_path(tmp_path / "checkpoint"))
        results = train(algorithm, 2)
        log = asked(algorithm.labelling.log.read())
        restore_beside(algorithm, checkpoint, tmp_path / "resumed")
        assert measured(train(algorithm, 2)) == measured(results)
        assert asked(algorithm.labelling.log.read()) == log
    finally:
        algorithm.config = own


def test_an_audit_is_asked_for_kept_and_gone_on_with(
    sea: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    """The ERM labels nothing before it was right; some questions are about its own pairs."""
    algorithm, own = sea["algorithm"], sea["algorithm"].config
    (tmp_path / "resumed").mkdir()
    try:
        algorithm.config = config(
            tiny_policy,
            sea["folder"],
            gamma=0.5,
            synthetic_labels="soft",
            synthetic_agreement=1.0,
            audit_threshold=0.01,
            audit_share=0.6,
        )
        algorithm.config.validate()
        restore_beside(algorithm, sea["start"], tmp_path)
        results = train(algorithm, 3)
        checkpoint = Path(algorithm.save_to_path(tmp_path / "checkpoint"))
        results += train(algorithm, 2)
        entries = list(algorithm.labelling.log.read())
        restore_beside(algorithm, checkpoint, tmp_path / "resumed")
        assert measured(train(algorithm, 2)) == measured(results[3:])
        assert asked(algorithm.labelling.log.read()) == asked(entries)
    finally:
        algorithm.config = own
    by_strategy = Counter(entry.question.strategy for entry in entries)
    assert set(by_strategy) == {"audit", "bai_ts"}
    last = results[-1]
    assert last["reward_model"]["audit_labels"] == by_strategy["audit"]
    assert results[0]["duels"]["gamma"] == 1.0
    assert last["duels"]["gamma"] == 0.5
    assert last["num_synthetic_pairs"] > 0
    notes = "\n".join(result.get("notes", "") for result in results)
    assert notes.count("the policy learns from the ERM: it was right about") == 1
    dropped = [result["duels"]["num_skipped_disagreement"] for result in results]
    assert sum(dropped) > 0
    drawn = last["num_oracle_queries"] + last["num_synthetic_pairs"] + last["num_skipped_prompts"]
    assert last["num_prompts_drawn"] == drawn


def test_reinforce_waits_until_the_ensemble_is_right(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit's own verdict is tested by hand elsewhere; here what follows from it."""
    algorithm = config(
        tiny_policy,
        tmp_path,
        loss="reinforce",
        loss_config={"min_labels": 0},
        policy_replay=0,
        gamma=1.0,
        audit_threshold=1.0,
    ).build_algo()
    try:
        (before,) = train(algorithm, 1)
        monkeypatch.setattr(Audit, "trusted", True)
        (after,) = train(algorithm, 1)
    finally:
        algorithm.stop()
    assert before["reward_model"]["audit_labels"] == before["num_oracle_queries"] > 0
    assert (before["policy_steps"], after["policy_steps"]) == (0, 1)


def test_regret_stays_where_it_was_in_a_round_without_a_real_duel(
    tiny_policy: Path, tmp_path: Path
) -> None:
    """A study that reads it in every round once ended there."""
    algorithm = config(
        tiny_policy,
        tmp_path,
        env_config={"prompts": "tldr_mini", "oracle": "reader"},
        gamma=[[0, 1.0], [1, 1e-9]],
        measure_candidate_scores=True,
    ).build_algo()
    try:
        first, second = (result["duels"] for result in train(algorithm, 2))
    finally:
        algorithm.stop()
    assert "pool_regret" in first
    assert "pool_regret" not in second
    assert second["cumulative_pool_regret"] == first["cumulative_pool_regret"] > 0


def test_a_resumed_run_without_a_policy_is_the_unbroken_one_to_the_bit(
    tiny_policy: Path, tmp_path: Path
) -> None:
    algorithm = config(
        tiny_policy, tmp_path, update_policy=False, policy_replay=0, gamma=1.0
    ).build_algo()
    (tmp_path / "resumed").mkdir()
    try:
        train(algorithm, 1)
        checkpoint = Path(algorithm.save_to_path(tmp_path / "checkpoint"))
        results = train(algorithm, 2)
        log = asked(algorithm.labelling.log.read())
        restore_beside(algorithm, checkpoint, tmp_path / "resumed")
        assert measured(train(algorithm, 2)) == measured(results)
        assert asked(algorithm.labelling.log.read()) == log
    finally:
        algorithm.stop()


def test_a_run_waits_for_an_oracle_that_is_away(sea: dict[str, Any], tmp_path: Path) -> None:
    algorithm, folder = sea["algorithm"], sea["folder"]
    restore_beside(algorithm, sea["start"], tmp_path)
    before = len(answered(folder))
    results = train(algorithm, 1)
    (folder / "away").write_text("2")
    results += train(algorithm, 1)
    assert results[1]["warnings"].count("nobody is there") == 2
    assert "asking again in 0.02 s (2 of 3)" in results[1]["warnings"]

    (folder / "away").write_text("100")
    with pytest.raises(OracleAwayError, match="nobody is there"):
        algorithm.train()
    log = algorithm.labelling.log
    pending = log.entries(log.open_ids())
    assert {entry.question.round for entry in pending} == {2}
    # The oracle is back: the round is tried again, the same questions are answered.
    (folder / "away").unlink()
    results += train(algorithm, 1)
    assert log.open_ids() == []
    assert measured(results) == measured(sea["results"])
    # Once each; those that were refused came last in their round.
    assert sorted(answered(folder)[before:]) == sorted(sea["answered"])


@pytest.fixture
def in_processes(tiny_policy: Path, tmp_path: Path) -> Iterator[SEA]:
    """The same run with an env runner and a training worker in processes of their own."""
    algorithm = config(tiny_policy, tmp_path, **IN_PROCESSES).build_algo()
    yield algorithm
    algorithm.stop()


def test_an_env_runner_killed_between_rounds_and_while_it_generates_changes_nothing(
    sea: dict[str, Any], in_processes: SEA, tmp_path: Path
) -> None:
    algorithm = in_processes
    results = train(algorithm, 1)
    _runner(algorithm).send_signal(signal.SIGKILL)
    results += train(algorithm, 1)

    runner = _runner(algorithm)
    worked_before = _cpu_seconds(runner)

    def kill() -> None:
        # Nothing else is computed there before the candidates are.
        while _cpu_seconds(runner) < worked_before + 0.03:
            time.sleep(0.002)
        runner.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    results += train(algorithm, 1)
    killer.join()
    assert _runner(algorithm) != runner
    assert measured(results) == measured(sea["results"])
    assert asked(algorithm.labelling.log.read()) == asked(sea["log"])
    assert answered(tmp_path) == sea["answered"]


def _runner(algorithm: SEA) -> psutil.Process:
    (number,) = algorithm.env_runner_group.foreach_env_runner("process_id", local_env_runner=False)
    return psutil.Process(number)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
