"""A run on conversations, from a file to a log, its export, and a run that starts from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.export import export_preferences
from rllib_sea.preference_log.reader import LOG_FILE, PreferenceReader
from tests.helpers.sea_runs import run_to_the_end, tiny_config
from text_duel.conversations import as_text, turn

BUDGET = 4
TALKS = [
    (
        *turn("system", "Be brief."),
        *turn("user", f"Hi {i}"),
        *turn("assistant", "Ho"),
        *turn("user", "And?"),
    )
    for i in range(8)
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_run_on_conversations(tiny_policy: Path, tmp_path: Path) -> None:
    for split, talks in (("train", TALKS[:4]), ("test", TALKS[4:])):
        rows = [{"id": f"{split}{i}", "messages": talk} for i, talk in enumerate(talks)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings: dict[str, Any] = {
        "env_config": {
            "prompts": str(tmp_path),
            "columns": {"post": "messages", "reference": None},
            "oracle": "length",
            "oracle_config": {"target": 3},
        },
        "prompts_per_round": BUDGET,
        "query_budget": BUDGET,
        "evaluation_num_prompts": 2,
        "measure_online_win_rate": False,
        "update_policy": False,
    }
    algorithm = tiny_config(tiny_policy, **settings).build_algo()
    try:
        assert run_to_the_end(algorithm)[-1]["num_oracle_queries"] == BUDGET
        log = algorithm.folder / LOG_FILE
        with PreferenceReader(log) as reader:
            asked = [entry.question for entry in reader.read()]
            number = export_preferences(reader, "jsonl", tmp_path / "out.jsonl")
    finally:
        algorithm.stop()
    by_id = {f"train{i}": talk for i, talk in enumerate(TALKS[:4])}
    tokenizer = PromptTokenizer(tiny_policy)
    assert {question.prompt_id for question in asked} == set(by_id)
    for question in asked:
        talk = by_id[question.prompt_id]
        assert (question.prompt, question.prompt_text) == (talk, as_text(talk))
        assert question.prompt_token_ids == tokenizer.encode(talk)
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in exported] == [list(q.prompt) for q in asked][:number]

    warm = tiny_config(tiny_policy, **settings, initial_preferences=str(log)).build_algo()
    try:
        assert warm.train()["num_initial_preferences"] == number
    finally:
        warm.stop()
