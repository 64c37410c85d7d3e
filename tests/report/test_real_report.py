"""The page of a run that was really made, and of the same run done again from a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.utils.util import SafeFallbackEncoder

from rllib_sea.report.page import render
from tests.helpers.sea_runs import BUDGET, run_to_the_end, tiny_config
from tests.report.page_checks import page_of


@pytest.fixture(scope="module")
def finished(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with the ensemble's own labels; its last rounds were done twice."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    algorithm = tiny_config(tiny_policy, gamma=[[0, 1.0], [8, 1.0], [9, 0.5]]).build_algo()
    try:
        results = [algorithm.train()]
        checkpoint = algorithm.save_to_path(tmp_path_factory.mktemp("checkpoint") / "first")
        algorithm.train()
        going_on = render([algorithm.folder])
        algorithm.restore_from_path(checkpoint)
        results += run_to_the_end(algorithm)
        folder = algorithm.folder
    finally:
        algorithm.stop()
        ray.shutdown()
    # As Tune writes it, which does not run here.
    with (folder / "result.json").open("w") as file:
        for row in results:
            file.write(json.dumps(row, cls=SafeFallbackEncoder) + "\n")
    return {"folder": folder, "results": results, "going_on": going_on}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_the_page_has_the_numbers_of_the_results(finished: dict[str, Any]) -> None:
    page = page_of(render([finished["folder"]]))
    text, last = " ".join(page.text.split()), finished["results"][-1]
    for result in finished["results"]:
        for key, value in result.get("evaluation", {}).items():
            if key not in ("num_prompts", "seconds") and not key.startswith("initial"):
                assert f"{value:.3f}" in text or f"{value:.0f}" in text, key
        assert f"{result['reward_model']['accuracy_on_new_labels']:.3f}" in text
    assert f"{BUDGET} questions to " in text
    assert f"{BUDGET} answered, 0 open, 0 withdrawn" in text
    assert f"The ensemble labelled {last['num_synthetic_pairs']} pairs itself" in text
    assert f"{last['num_evaluation_questions']} questions to the oracle to measure" in text
    assert "policy_lr 5e-07 0.001" in text
    assert ray.__version__ in text
    assert "finished" in text


def test_while_it_runs_there_is_what_there_is(finished: dict[str, Any]) -> None:
    text = " ".join(page_of(finished["going_on"]).text.split())
    assert "still running" in text
    assert "There is no result.json" in text
    assert "16 questions to " in text


def test_what_was_done_twice_stands_once(finished: dict[str, Any]) -> None:
    duels = rows(finished["folder"] / "duels.jsonl")
    places = [(row["asked_in"], row["position"]) for row in duels]
    assert len(places) == len(set(places))
    assert sum(not row["synthetic"] for row in duels) == BUDGET
    assert sum(row["synthetic"] for row in duels) == finished["results"][-1]["num_synthetic_pairs"]
    responses = rows(finished["folder"] / "responses.jsonl")
    evaluations = [(row["round"], row["prompt_id"]) for row in responses]
    assert len(evaluations) == len(set(evaluations))


def test_responses_are_those_that_the_metrics_are_of(finished: dict[str, Any]) -> None:
    responses = rows(finished["folder"] / "responses.jsonl")
    evaluated = [result for result in finished["results"] if "evaluation" in result]
    assert {row["round"] for row in responses} == {result["round"] for result in evaluated}
    for result in evaluated:
        of_round = [row for row in responses if row["round"] == result["round"]]
        assert len(of_round) == 6
        assert {row["num_oracle_queries"] for row in of_round} == {result["num_oracle_queries"]}
        for key, metric in (
            ("win_vs_initial", "win_rate_vs_initial_soft"),
            ("score", "mean_score"),
            ("initial_score", "initial_mean_score"),
            ("num_tokens", "response_length"),
        ):
            mean = sum(row[key] for row in of_round) / 6
            assert result["evaluation"][metric] == pytest.approx(mean), key
