"""The whole algorithm on real parts: Ray, RLlib, vLLM, Ray Train, with a tiny random model."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea import SEA
from rllib_sea.evaluation import summarise
from tests.helpers.sea_runs import BUDGET, IN_PROCESSES, curve, run_to_the_end, tiny_config
from tests.helpers.stale_engine import LaterStaleEnvRunner, StaleEnvRunner


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def sea_run(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run with vLLM in processes of its own, mixed labels after the first round."""
    config = tiny_config(
        tiny_policy,
        sampler="vllm",
        sampler_config={"kv_cache_gib": 0.25},
        erm_encoder="minilm",
        **IN_PROCESSES,
        gamma=[[0, 1.0], [8, 1.0], [9, 0.5]],
    )
    algorithm = config.build_algo()
    try:
        results = run_to_the_end(algorithm)
        checkpoint = Path(algorithm.save_to_path(tmp_path_factory.mktemp("checkpoint") / "end"))
        labels = len(algorithm.reward_model.replay)
        with pytest.raises(RuntimeError, match="has ended after 21 queries, of a query_budget"):
            algorithm.train()
        folder = algorithm.folder
        samples = (folder / "sample_duels.md").read_text()
    finally:
        algorithm.stop()
    return {
        "results": results,
        "checkpoint": checkpoint,
        "labels": labels,
        "samples": samples,
        "train_folder_is_gone": not (folder / "train").exists(),
    }


def test_the_budget_is_used_exactly_and_synthetic_pairs_cost_nothing(sea_run: Any) -> None:
    results = sea_run["results"]
    assert results[0]["num_oracle_queries"] == 8
    assert results[-1]["num_oracle_queries"] == BUDGET
    assert results[-1]["num_synthetic_pairs"] > 0
    assert sea_run["labels"] == BUDGET, "the ERM learns from oracle labels alone"
    drawn = results[-1]["num_prompts_drawn"]
    skipped = results[-1]["num_skipped_prompts"]
    assert drawn == BUDGET + results[-1]["num_synthetic_pairs"] + skipped


def test_the_first_update_starts_at_the_reference(sea_run: Any) -> None:
    first = sea_run["results"][0]["policy"]
    assert first["margin"] == 0.0
    assert first["loss"] == pytest.approx(math.log(2))
    assert [r["policy_steps"] for r in sea_run["results"]] == list(
        range(1, len(sea_run["results"]) + 1)
    )


def test_every_engine_is_audited(sea_run: Any) -> None:
    for result in sea_run["results"]:
        assert 0.0 < result["policy"]["sampler_gap"] < 1e-5
    assert sea_run["results"][0]["seconds"]["rehearsal"] > 0.0


def test_an_engine_that_keeps_a_tensor_ends_the_run_before_its_first_round(
    tiny_policy: Path,
) -> None:
    config = tiny_config(tiny_policy, num_env_runners=1)
    config.env_runner_cls = StaleEnvRunner
    with pytest.raises(RuntimeError, match="does not sample the policy") as error:
        config.build_algo()
    assert "after it was given trial weights" in str(error.value)


def test_an_engine_that_goes_stale_ends_the_run_before_a_label_is_asked(tiny_policy: Path) -> None:
    config = tiny_config(tiny_policy, policy_lr=3e-2, lr_schedule="constant")
    config.env_runner_cls = LaterStaleEnvRunner
    algorithm = config.build_algo()
    try:
        algorithm.train()
        with pytest.raises(RuntimeError, match=r"weights of version 2 .* nats per token") as error:
            run_to_the_end(algorithm)
        assert "expected at most 0.001" in str(error.value)
        assert algorithm.labelling.log.num_questions() == 16
    finally:
        algorithm.stop()


def test_evaluation_compares_with_the_initial_policy_and_the_references(sea_run: Any) -> None:
    last = sea_run["results"][-1]["evaluation"]
    assert last["num_prompts"] == 6
    for name in ("win_rate_vs_initial", "win_rate_vs_reference", "win_rate_vs_initial_soft"):
        assert last[f"{name}_low"] <= last[name] <= last[f"{name}_high"]
    assert math.isfinite(last["mean_score"])


def test_documented_metrics_are_those_reported(sea_run: Any) -> None:
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    for result in sea_run["results"]:
        for group in ("duels", "reward_model", "policy", "evaluation"):
            for name in result.get(group, {}):
                stem = name.removesuffix("_low").removesuffix("_high")
                assert f"`{stem}`" in text or f"`{group}/{stem}`" in text, (group, name)


def test_sample_duels_are_readable(sea_run: Any) -> None:
    assert "label by the oracle" in sea_run["samples"]
    assert "(preferred)" in sea_run["samples"]
    assert "member rewards" in sea_run["samples"]


def test_the_end_leaves_no_snapshots(sea_run: Any) -> None:
    assert sea_run["train_folder_is_gone"]


def test_transformers_loads_the_policy(sea_run: Any, tiny_policy: Path) -> None:
    folder = sea_run["checkpoint"] / "policy"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    policy = AutoModelForCausalLM.from_pretrained(folder)
    initial = AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32)
    tokens = tokenizer("A post.", return_tensors="pt")["input_ids"]
    assert not torch.allclose(policy(tokens).logits, initial(tokens).logits)


def test_a_checkpoint_restores_counts_labels_and_weights(sea_run: Any) -> None:
    algorithm = SEA.from_checkpoint(str(sea_run["checkpoint"]))
    try:
        assert algorithm._counters_now() == {
            key: sea_run["results"][-1][key] for key in algorithm._counters_now()
        }
        assert len(algorithm.reward_model.replay) == BUDGET
        evaluated = algorithm.evaluate()
        before = sea_run["results"][-1]["evaluation"]
        assert evaluated["mean_score"] == pytest.approx(before["mean_score"])
        assert evaluated["win_rate_vs_initial_soft"] == pytest.approx(
            before["win_rate_vs_initial_soft"]
        )
    finally:
        algorithm.stop()


def test_two_env_runners_one_of_them_killed_give_the_run_of_one_process(tiny_policy: Path) -> None:
    """Randomness is keyed by a prompt's place in the round, not by who works on it."""
    curves = []
    for num_env_runners in (0, 2):
        config = tiny_config(tiny_policy, num_env_runners=num_env_runners, gamma=0.8)
        algorithm = config.build_algo()
        try:
            results = [algorithm.train()]
            if num_env_runners == 2:
                (process, *_) = algorithm.env_runner_group.foreach_env_runner(
                    "process_id", local_env_runner=False
                )
                os.kill(process, signal.SIGKILL)
            results += run_to_the_end(algorithm)
            curves.append(curve(results))
        finally:
            algorithm.stop()
    for one, two in zip(*curves, strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_a_run_ends_when_the_next_labels_are_expected_to_bring_too_little(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than half: that is foretold as soon as anything is, after two evaluations."""
    monkeypatch.setattr("rllib_sea.reward_model.forecast.CLIMBED", 0.0)  # it has not
    algorithm = tiny_config(
        tiny_policy, query_budget=200, evaluation_interval=2, stop_when_gain_below=0.5
    ).build_algo()
    try:
        results = run_to_the_end(algorithm)
        with pytest.raises(
            RuntimeError, match="the run has ended after 32 queries, of a query_bud"
        ):
            algorithm.train()
        algorithm.restore_from_path(algorithm.save_to_path(tmp_path))
        assert algorithm.reward_model.evaluated.labels.tolist() == [0.0, 16.0, 32.0]
    finally:
        algorithm.stop()
    assert [result["done"] for result in results] == [False, False, False, True]
    first, *_, last = (result["reward_model"] for result in results)
    assert "estimated_win_rate" not in first
    assert all("expected_gain" not in result["reward_model"] for result in results[:3])
    # Without an evaluation, too: by then the ERM has learned more.
    assert all(0.0 < result["reward_model"]["estimated_win_rate"] < 1.0 for result in results[1:])
    assert last["next_labels"] == 3.0
    assert last["expected_gain_low"] < last["expected_gain"] < last["expected_gain_high"] < 0.5
    assert "num_prompts" in results[-1]["evaluation"]
    notes = [line for result in results for line in result.get("notes", "").splitlines()]
    (note,) = (line for line in notes if "the run ends" in line)
    assert re.fullmatch(
        r"the run ends: 3 more labels are expected to add \S+ \[\S+, \S+\] to the win rate over "
        r"the initial policy, by the ERM alone: less than stop_when_gain_below 0\.5",
        note,
    )


def test_a_loss_that_is_not_finite_ends_the_run_with_its_pairs(tiny_policy: Path) -> None:
    algorithm = tiny_config(tiny_policy, policy_lr=1e30, lr_schedule="constant").build_algo()
    try:
        with pytest.raises(RuntimeError, match=r"loss is .*; what it learned from is in") as error:
            run_to_the_end(algorithm)
        pairs = json.loads(Path(str(error.value).rsplit("is in ", 1)[1]).read_text())
        assert pairs[0]["chosen_token_ids"]
    finally:
        algorithm.stop()


def test_an_oracle_that_cannot_answer_is_named(tiny_policy: Path) -> None:
    config = tiny_config(
        tiny_policy,
        env_config={
            "prompts": "tldr_mini",
            "oracle": "tests.helpers.failing_oracle:FailingOracle",
            "oracle_config": {"answers": 8},
        },
        measure_online_win_rate=False,
        oracle_retries=0,
    )
    algorithm = config.build_algo()
    try:
        with pytest.raises(RuntimeError, match=r"oracle failing could not answer .* gone home"):
            run_to_the_end(algorithm)
        assert algorithm._counts.num_oracle_queries == 8
    finally:
        algorithm.stop()


def test_an_oracle_that_leaves_before_the_last_evaluation_costs_that_alone(
    tiny_policy: Path,
) -> None:
    config = tiny_config(
        tiny_policy,
        env_config={
            "prompts": "tldr_mini",
            "oracle": "tests.helpers.failing_oracle:FailingOracle",
            "oracle_config": {"answers": BUDGET},
        },
        measure_online_win_rate=False,
        evaluation_interval=100,
        oracle_retries=0,
    )
    algorithm = config.build_algo()
    try:
        last = run_to_the_end(algorithm)[-1]
        assert last["num_oracle_queries"] == BUDGET
        assert last["policy"]["loss"] > 0.0
        assert "evaluation" not in last
        assert "gone home" in last["warnings"]
        assert "`rllib evaluate` of the checkpoint makes it" in last["warnings"]
    finally:
        algorithm.stop()


def test_late_answers_are_learned_from_and_none_is_lost(tiny_policy: Path) -> None:
    """A round learns from half of its labels; the budget is used exactly, whenever they come."""
    config = tiny_config(
        tiny_policy,
        env_config={
            "prompts": "tldr_mini",
            "oracle": "tests.helpers.slow_oracle:SlowOracle",
            "oracle_config": {"seconds": 2.0},
        },
        wait_for=0.5,
        gamma=0.8,
        policy_replay=1,
        measure_online_win_rate=False,
        evaluation_interval=100,
    )
    algorithm = config.build_algo()
    try:
        results = run_to_the_end(algorithm)
        assert len(algorithm.reward_model.replay) == BUDGET
        entries = list(algorithm.labelling.log.read())
    finally:
        algorithm.stop()
    assert sum(result["duels"]["num_late_labels"] for result in results) > 0
    for result in results:
        assert result["num_oracle_queries"] + result["num_open_questions"] <= BUDGET
    assert (results[-1]["num_oracle_queries"], results[-1]["num_open_questions"]) == (BUDGET, 0)
    assert len(entries) == BUDGET
    assert {len(entry.verdicts) for entry in entries} == {1}
    late = [e for e in entries if e.learned_in is not None and e.learned_in > e.question.round]
    assert len(late) == sum(result["duels"]["num_late_labels"] for result in results)


def test_the_oracle_is_asked_as_often_as_questions_are_counted(
    tiny_policy: Path, tmp_path: Path
) -> None:
    """With ERM labels, offline: the initial policy samples while the trained one is evaluated."""
    file = tmp_path / "questions"
    config = tiny_config(
        tiny_policy,
        env_config={
            "prompts": "tldr_mini",
            "oracle": "tests.helpers.counting_oracle:CountingOracle",
            "oracle_config": {"file": str(file)},
        },
        gamma=0.5,
        policy_sync_interval=None,
        evaluation_best_of_n=3,
        evaluation_samples=2,
    )
    algorithm = config.build_algo()
    try:
        before = summarise(algorithm.evaluate_held_out())
        file.unlink()
        last = run_to_the_end(algorithm)[-1]
        duels = (algorithm.folder / "sample_duels.md").read_text()
        responses = (algorithm.folder / "responses.jsonl").read_text().splitlines()
    finally:
        algorithm.stop()
    assert last["num_oracle_queries"] == BUDGET
    assert last["num_synthetic_pairs"] > 0
    asked = sum(map(int, file.read_text().split()))
    assert asked == last["num_oracle_queries"] + last["num_evaluation_questions"]
    assert last["evaluation"]["kl"] > 0.0
    # With the same seeds the initial policy samples what it sampled.
    assert before["sampled_win_rate_vs_initial_soft"] == 0.5
    samples = [json.loads(row)["samples"] for row in responses[-6:]]
    assert {len(row) for row in samples} == {2}
    wins = [one["win_vs_initial"] for row in samples for one in row]
    assert last["evaluation"]["sampled_win_rate_vs_initial_soft"] == pytest.approx(sum(wins) / 12)
    assert set(wins) != {0.5}
    assert "best_of_n_win_rate_vs_initial" in last["evaluation"]
    best = [json.loads(row)["best_of_n"]["win_vs_initial"] for row in responses[-6:]]
    assert last["evaluation"]["best_of_n_win_rate_vs_initial_soft"] == pytest.approx(sum(best) / 6)
    assert "label by the ERM\n" in duels
