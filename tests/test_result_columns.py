"""A run's results have what docs/metrics.md promises, though its oracle fails where it can."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.utils import flatten_dict

from rllib_sea.cli.result_keys import RESULT_KEYS
from rllib_sea.cli.results_files import add_row
from rllib_sea.preference_log.reader import PreferenceReader
from rllib_sea.preference_log.records import LogEntry
from tests.helpers.odd_oracle import oddness
from tests.helpers.preference_log_cases import fill
from tests.helpers.sea_runs import BUDGET, run_to_the_end, tiny_config

# The first needs a rule of which no pair is labelled by the ERM, two `loss: reinforce`, two people.
OTHER_RUNS = {"policy/optimism", "policy/kl", "policy/advantage"}
OTHER_RUNS |= {"evaluation/num_judged", "seconds/people_idle"}
# The tiny policy ends hardly a response: the ERM would label no pair at all.
OTHER_RUNS |= {"duels/num_skipped_cut_winner"}
OF_RLLIB = {"num_env_steps_sampled_lifetime", "num_training_step_calls_per_iteration"}


@dataclass(frozen=True)
class Ran:
    results: list[dict[str, Any]]
    log: list[LogEntry]
    reasons: dict[int, str]


@pytest.fixture(scope="module")
def ran(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("columns")
    fill(folder / "initial.sqlite")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = tiny_config(
        tiny_policy,
        env_config={"prompts": "tldr_mini", "oracle": "tests.helpers.odd_oracle:OddOracle"},
        initial_preferences=str(folder / "initial.sqlite"),
        gamma=0.6,
        synthetic_agreement=0.5,
        audit_threshold=0.0,
        policy_replay=1,
        measure_candidate_scores=True,
        evaluation_best_of_n=3,
        evaluation_samples=2,
        evaluation_interval=1,  # forecasts need three
        # Nobody waits for what cannot succeed: a wait would end the test.
        oracle_retry_wait_s=1000.0,
    )
    algorithm = config.build_algo()
    try:
        results = run_to_the_end(algorithm)
        with PreferenceReader(algorithm.labelling.log.path) as log:
            reasons = dict(log.query("SELECT question_id, reason FROM withdrawals"))
            yield Ran(results, list(log.read()), reasons)
    finally:
        algorithm.stop()
        ray.shutdown()


def test_the_table_has_all_documented_columns_and_no_others(ran: Ran, tmp_path: Path) -> None:
    columns = None
    for result in ran.results:
        columns = add_row(tmp_path / "progress.csv", flatten_dict(result, delimiter="/"), columns)
    with (tmp_path / "progress.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    measured = {name for row in rows for name, text in row.items() if text not in ("", "nan")}
    assert RESULT_KEYS - measured == OTHER_RUNS
    groups = ("duels/", "reward_model/", "policy/", "evaluation/", "seconds/")
    counters = {name for name in measured if name.startswith(("num_", "policy_steps", "round"))}
    of_groups = {name for name in measured if name.startswith(groups)}
    assert (counters | of_groups) - RESULT_KEYS == OF_RLLIB


def test_a_question_that_is_skipped_or_fails_ends_no_run(ran: Ran) -> None:
    last = ran.results[-1]
    by_oddness: dict[str, list[LogEntry]] = {"skips": [], "fails": [], "answers": []}
    for entry in ran.log:
        by_oddness[oddness(entry.question.prompt_id)].append(entry)
    assert min(map(len, by_oddness.values())) > 0, "the run has met each of them"
    assert {entry.state for entry in by_oddness["fails"]} == {"withdrawn"}
    for entry in by_oddness["fails"]:
        assert "ValueError: I cannot read that" in ran.reasons[entry.id]
    for entry in by_oddness["skips"]:
        assert (entry.state, entry.label, entry.learned_in) == ("answered", None, None)
        assert entry.verdicts[0].verdict.choice == "skip"
        assert "odd answered nan" in str(entry.verdicts[0].verdict.reason)
    for entry in by_oddness["answers"]:
        assert entry.label is not None
    # A skip is a query, a withdrawn question is none.
    assert last["num_oracle_queries"] == BUDGET
    assert last["num_oracle_queries"] == len(by_oddness["skips"]) + len(by_oddness["answers"])
    assert last["num_skipped_questions"] == len(by_oddness["skips"])
    assert last["num_withdrawn_questions"] == len(by_oddness["fails"])
    assert last["num_open_questions"] == 0
    warnings = "\n".join(result.get("warnings", "") for result in ran.results)
    assert "withdrawn: oracle odd could not answer 1 questions: ValueError" in warnings
    assert "measurements have no value: oracle odd could not answer: ValueError" in warnings
    assert "asking again" not in warnings
