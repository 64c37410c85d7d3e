"""What a run appends to its own files, and what a run that goes on takes off again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_sea.duels.rounds import EvaluatedPrompt, Outcome
from rllib_sea.duels.run_files import (
    NOTHING_WRITTEN,
    append_duels,
    append_responses,
    sizes,
    truncate,
)
from tests.helpers.round_cases import proposal, selected
from text_duel.verdicts import Label

NAN = float("nan")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_bytes().splitlines()]


def evaluated(**changes: Any) -> EvaluatedPrompt:
    outcome = Outcome("now\u2028\n\N{SNOWMAN}", 3, False, 0.75, NAN, NAN, 1)
    prompt = EvaluatedPrompt("p", "prompt", (1,), None, "before", NAN, outcome, None, None)
    return dataclasses.replace(prompt, **changes)


def test_a_response_is_a_row_that_is_whole_by_itself(tmp_path: Path) -> None:
    best = Outcome("best", 2, True, 0.5, 0.25, 1.5, 2)
    append_responses(
        tmp_path, 2, 16, [evaluated(), evaluated(best_of_n=best, samples=(best,), reference="it")]
    )
    first, second = rows(tmp_path / "responses.jsonl")
    assert first == {
        "round": 2,
        "num_oracle_queries": 16,
        "prompt_id": "p",
        "prompt": "prompt",
        "reference": None,
        "initial_response": "before",
        "initial_score": None,
        "response": "now\u2028\n\N{SNOWMAN}",
        "num_tokens": 3,
        "finished": False,
        "win_vs_initial": 0.75,
        "win_vs_reference": None,
        "score": None,
        "kl": None,
        "best_of_n": None,
        "samples": [],
    }
    assert second["reference"] == "it"
    assert second["best_of_n"]["response"] == "best"
    assert second["best_of_n"]["win_vs_reference"] == 0.25
    assert second["samples"] == [second["best_of_n"]]


def test_all_duels_are_rows_and_two_a_round_are_to_be_read(tmp_path: Path) -> None:
    rewards = np.array([[1, 2, 3], [4, 5, 6.5]])
    duel = selected(proposal(("a", "bb", "ccc"), rewards)).labelled(0, Label(0.0, 0.5), 0.25)
    append_duels(tmp_path, 4, [duel] * 3)
    found = rows(tmp_path / "duels.jsonl")
    assert len(found) == 3
    assert (found[0]["round"], found[0]["asked_in"], found[0]["synthetic"]) == (4, 0, False)
    assert (found[0]["preference"], found[0]["weight"]) == (0.0, 0.5)
    assert found[0]["win_probability"] == 0.25
    assert found[0]["member_rewards"] == duel.member_rewards.tolist()
    assert (tmp_path / "sample_duels.md").read_text().count("# Round") == 2


def test_what_a_checkpoint_does_not_know_is_taken_off(tmp_path: Path) -> None:
    assert sizes(tmp_path) == NOTHING_WRITTEN
    append_responses(tmp_path, 1, 8, [evaluated()])
    at_checkpoint = sizes(tmp_path)
    append_responses(tmp_path, 2, 16, [evaluated()])
    with (tmp_path / "responses.jsonl").open("a") as file:
        file.write('{"round": 3, "num_or')  # killed
    truncate(tmp_path, at_checkpoint)
    assert [row["round"] for row in rows(tmp_path / "responses.jsonl")] == [1]
    truncate(tmp_path, NOTHING_WRITTEN)
    assert sizes(tmp_path) == NOTHING_WRITTEN
