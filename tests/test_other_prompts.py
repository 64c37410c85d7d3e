"""A run whose file of prompts is another one by the time it goes on, with a tiny random model."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from rllib_sea import SEA, SEAConfig
from rllib_sea.duels.records import Candidate
from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.policy.prompt_identity import is_in_share
from rllib_sea.preference_log.records import LogEntry
from tests.helpers.sea_runs import tiny_config
from text_duel import ConfigError

SHARE = 0.3
POSTS = [f"Post {i}: what should I do?" for i in range(24)]
HELD_OUT = [post for post in POSTS if is_in_share(post, SHARE)]
TRAINING = [post for post in POSTS if not is_in_share(post, SHARE)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def write(folder: Path, posts: Sequence[str]) -> None:
    """One file without ids: they are made of the rows' numbers."""
    rows = [json.dumps({"post": post, "summary": f"Of {post}"}) + "\n" for post in posts]
    (folder / "mine.jsonl").write_text("".join(rows))


def config(policy: Path, folder: Path) -> SEAConfig:
    return tiny_config(
        policy,
        env_config={
            "prompts": str(folder / "mine.jsonl"),
            "template": "{post}",
            "oracle": "tests.helpers.away_oracle:AwayOracle",
            "oracle_config": {"folder": str(folder)},
        },
        held_out_share=SHARE,
        evaluation_num_prompts=None,
        evaluation_interval=100,
        query_budget=24,
        oracle_retries=0,
    )


@dataclass
class Stopped:
    """A run that stopped in its second round, since the oracle was away.

    Attributes:
        folder: Has the prompts and what the oracle answered.
        run_folder: The run's own.
        checkpoint: Written as it stopped.
        baseline: What the checkpoint has for the initial policy's responses, by prompt.
        open: The questions of the second round.
    """

    folder: Path
    run_folder: Path
    checkpoint: Path
    baseline: dict[str, Candidate]
    open: list[LogEntry]


@pytest.fixture(scope="module")
def stopped(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("stopped")
    write(folder, POSTS)
    algorithm = config(tiny_policy, folder).build_algo()
    try:
        algorithm.train()
        (folder / "away").write_text("1")
        with pytest.raises(OracleAwayError):
            algorithm.train()
        log = algorithm.labelling.log
        # The tiny policy says much the same to all: told apart, so that a swap is seen.
        algorithm.held_out.set_state(
            {post: (Candidate(f"To {post}", (1,), (0.0,), "stop"),) for post in HELD_OUT}
        )
        return Stopped(
            folder,
            algorithm.folder,
            Path(algorithm.save_to_path(folder / "checkpoint")),
            algorithm.held_out.get_state(),
            log.entries(log.open_ids()),
        )
    finally:
        algorithm.stop()


@pytest.fixture
def other_prompts(stopped: Stopped) -> Iterator[list[str]]:
    """In another order, without a prompt that is asked about and one held out, and with others."""
    gone = {stopped.open[0].question.prompt_text, HELD_OUT[0]}
    new = [f"New {i}: what should I do?" for i in range(40)]
    posts = [*new, *reversed([post for post in POSTS if post not in gone])]
    write(stopped.folder, posts)
    yield posts
    write(stopped.folder, POSTS)


def test_resumed_with_other_prompts_it_is_refused_before_anything_starts(
    stopped: Stopped,
    other_prompts: list[str],
    tiny_policy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: Any) -> None:
        raise AssertionError("it starts")

    monkeypatch.setattr("rllib_sea.lifecycle.PolicyTrainer.start", start)
    monkeypatch.setattr(SEA, "folder", stopped.run_folder)  # as Tune has it
    with pytest.raises(ConfigError) as wrong:
        config(tiny_policy, stopped.folder).build_algo()
    assert f"of {len(TRAINING)} training prompts 1 are gone or edited" in str(wrong.value)
    assert f"of {len(HELD_OUT)} held-out prompts 1 are gone or edited" in str(wrong.value)
    assert "\n" not in str(wrong.value)
    write(stopped.folder, POSTS)
    with pytest.raises(AssertionError, match="it starts"):
        config(tiny_policy, stopped.folder).build_algo()


def test_restored_with_other_prompts_all_is_matched_by_what_was_asked(
    stopped: Stopped, other_prompts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What is open is asked about the prompt that it was written for, wherever it stands now."""
    (stopped.folder / "away").unlink(missing_ok=True)
    num_before = len((stopped.folder / "answered").read_text().splitlines())
    with caplog.at_level(logging.WARNING):
        algorithm = SEA.from_checkpoint(str(stopped.checkpoint))
    assert "the prompts are not those of the checkpoint: of " in caplog.text
    try:
        result = algorithm.train()
        baseline = dict(
            zip(
                [prompt.text for prompt in algorithm._prompts.held_out.prompts],
                algorithm.held_out.baseline(),
                strict=True,
            )
        )
        entries = algorithm.labelling.log.round(1)
        measured = algorithm._prompts.index
    finally:
        algorithm.stop()
    lost, *kept = entries
    assert (lost.state, {entry.state for entry in kept}) == ("withdrawn", {"answered"})
    assert "1 question is withdrawn: no training prompts of the run any more" in result["warnings"]
    assert "round 1: 1 duels of the log are not measured" in result["warnings"]
    assert result["num_oracle_queries"] == 8 + len(kept)
    # The oracle was shown each question's own prompt: its id is the row where it stands now.
    rows = (stopped.folder / "answered").read_text().splitlines()[num_before:]
    shown = {
        tuple(line.split(" ", 1))[1]: other_prompts[int(line.split()[0].removeprefix("train-"))]
        for line in rows
    }
    for entry in kept:
        question = entry.question
        assert measured.find(question.prompt_id, question.prompt_text) is not None
        pair = f"{question.first.text!r} {question.second.text!r}"
        assert shown[pair] == question.prompt_text
    # Of held-out prompts that stayed, the responses are those that were made before training.
    stayed = set(HELD_OUT[1:])
    assert stayed < baseline.keys()
    assert {post: baseline[post] for post in stayed} == {p: stopped.baseline[p] for p in stayed}


def test_restored_with_another_split_the_initial_responses_are_made_and_leaks_are_said(
    stopped: Stopped, tiny_policy: Path
) -> None:
    """A larger share: all that was held out still is, and some that was trained on."""
    other = config(tiny_policy, stopped.folder).evaluation(held_out_share=0.6)
    algorithm = other.build_algo()
    try:
        algorithm.restore_from_path(stopped.checkpoint)
        evaluated = algorithm.evaluate_held_out()
        baseline = algorithm.held_out.get_state()
        said = algorithm._messages.take()["warnings"]
    finally:
        algorithm.stop()
    held_out = [prompt.prompt_text for prompt in evaluated]
    new = len(held_out) - len(HELD_OUT)
    assert set(HELD_OUT) < set(held_out) == baseline.keys()
    assert {post: baseline[post] for post in HELD_OUT} == stopped.baseline
    assert f"{new} of {len(held_out)} held-out prompts were training prompts" in said
    assert f"{new} of the {len(held_out)} held-out prompts are new or edited" in said
