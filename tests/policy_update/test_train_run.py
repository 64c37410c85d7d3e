"""The policy's Ray Train run: real workers, killed and restarted, beside one plain process.

A step of AdamW moves a weight by about the learning rate, 1e-3 here: an update that is lost,
repeated or computed from other pairs shows as 1e-3. The order in which floats are summed
shows as less than 1e-5, in the few weights whose gradient is as small as AdamW's epsilon.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import NonFiniteUpdateError, PolicyLearner
from rllib_sea.policy_update.run import PolicyTrainRun
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses, ResponseScores
from tests.helpers.preference_pairs import random_pairs, random_prompts
from tests.helpers.weights import assert_same_updates

# With two workers and minibatches of 2: an even share, and one that leaves a worker without
# pairs in its last minibatch.
ROUNDS = [random_pairs(num, seed=seed, vocabulary=255) for seed, num in enumerate((7, 5, 8, 5))]
# An odd number, one with more responses than a worker takes at once.
PROMPTS = [
    *random_prompts(6, seed=9, vocabulary=255),
    PromptResponses((1, 2, 3), tuple((i, i + 1) for i in range(10, 20))),
]
CANDIDATES = [
    CandidateAdvantages(prompt, tuple(0.1 * i - 0.2 for i in range(len(prompt.responses))))
    for prompt in PROMPTS
]
# The embedding of this token is not a number: a pair that has it cannot be learned from.
BROKEN_TOKEN = 255
BROKEN_ROUND = [
    *ROUNDS[0],
    dataclasses.replace(ROUNDS[0][0], chosen_token_ids=(7, BROKEN_TOKEN, 8)),
]


@dataclasses.dataclass(frozen=True)
class AfterUpdate:
    metrics: dict[str, float]
    weights: dict[str, torch.Tensor]
    scores: ResponseScores


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def policy(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy with an output embedding of its own, and a token that breaks it."""
    folder = tmp_path_factory.mktemp("policies") / "broken-token"
    model = AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[BROKEN_TOKEN] = torch.nan
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(folder)
    return folder


@pytest.fixture
def config(policy: Path, tmp_path: Path) -> PolicyTrainConfig:
    return PolicyTrainConfig(
        policy_lr=1e-3,
        lr_schedule="cosine",
        total_steps=4,
        warmup_ratio=0.25,
        train_precision="fp32",
        policy_minibatch_size=2,
        max_train_failures=0,
        model_path=str(policy),
        storage_path=str(tmp_path / "train"),
        probes=((1, 2, 3), (4, 5)),
    )


@pytest.fixture(scope="module")
def expected(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> list[AfterUpdate]:
    """What one process does that takes each round's pairs in one minibatch."""
    config = PolicyTrainConfig(
        policy_lr=1e-3,
        lr_schedule="cosine",
        total_steps=4,
        warmup_ratio=0.25,
        train_precision="fp32",
        policy_minibatch_size=8,
        model_path=str(policy),
    )
    learner = PolicyLearner(config)
    folder = tmp_path_factory.mktemp("expected")
    result = []
    for pairs in ROUNDS:
        metrics = learner.update(pairs)
        learner.save(folder / "policy")
        weights = load_file(folder / "policy" / "model.safetensors")
        result.append(AfterUpdate(metrics, weights, learner.score(PROMPTS)))
    return result


@pytest.fixture
def start() -> Iterator[Callable[[PolicyTrainConfig], PolicyTrainRun]]:
    """Starts runs; ends them after the test, and checks that no worker is left."""
    runs: list[PolicyTrainRun] = []

    def start_run(config: PolicyTrainConfig) -> PolicyTrainRun:
        runs.append(PolicyTrainRun(config))
        runs[-1].start()
        return runs[-1]

    yield start_run
    for run in runs:
        run.stop()
    _wait_for(lambda: not _run_processes())


def _run_processes(
    names: tuple[str, ...] = ("TrainWorker", "TrainController", "Feed"),
):
    """This process's descendants that serve a run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue  # it has just ended
        if title.startswith("ray::") and any(name in title for name in names):
            found.append(process)
    return found


def _workers() -> list[psutil.Process]:
    return _run_processes(("TrainWorker",))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _saved(run: PolicyTrainRun, folder: Path) -> dict[str, torch.Tensor]:
    run.save(str(folder))
    return load_file(folder / "model.safetensors")


def _assert_same(metrics: dict[str, float], expected: AfterUpdate) -> None:
    assert metrics == pytest.approx(expected.metrics, rel=1e-5, abs=1e-5)


def _assert_same_scores(scores: ResponseScores, expected: ResponseScores) -> None:
    for name in ("log_probs", "reference_log_probs", "kl"):
        got, wanted = getattr(scores, name), getattr(expected, name)
        assert got.shape == (sum(len(prompt.responses) for prompt in PROMPTS),)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=5e-5, err_msg=name)
    assert (scores.kl > 0).all()


def _assert_equal(weights: Mapping[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


def _assert_refused(run: PolicyTrainRun, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """An update that is not finite changes nothing; the run goes on."""
    version = run.version
    with pytest.raises(NonFiniteUpdateError, match="loss is nan, its gradient norm nan"):
        run.update(BROKEN_ROUND)
    assert run.version == version
    _assert_equal(_saved(run, tmp_path / "after-refusal"), weights)


def _assert_initial_and_rehearsal(run: PolicyTrainRun, initial: Mapping[str, torch.Tensor]) -> None:
    """The reference's weights are the initial ones, also after it stood in for a rehearsal."""
    before = run.score(PROMPTS)
    rehearsal = run.weights("rehearsal")
    published = run.weights("initial")
    _assert_equal(published.tensors, initial)
    for name, tensor in initial.items():
        assert not torch.equal(rehearsal.tensors[name], tensor), name
    assert rehearsal.probe != published.probe
    for one, other in zip(
        dataclasses.astuple(before), dataclasses.astuple(run.score(PROMPTS)), strict=True
    ):
        assert (one == other).all()


def test_one_worker_saves_loads_refuses_what_is_not_finite_and_fails_in_one_line(
    config: PolicyTrainConfig,
    expected: list[AfterUpdate],
    start: Callable[[PolicyTrainConfig], PolicyTrainRun],
    tmp_path: Path,
) -> None:
    run = start(config)
    initial = run.weights().tensors
    assert run.version == 0
    scores = run.score(PROMPTS)
    assert not scores.kl.any()
    assert (scores.log_probs == scores.reference_log_probs).all()
    for pairs, after in zip(ROUNDS[:2], expected, strict=False):
        _assert_same(run.update(pairs), after)
    assert run.version == 2
    saved = _saved(run, tmp_path / "two")
    assert_same_updates(saved, expected[1].weights)
    weights = run.weights().tensors
    _assert_equal(weights, saved)
    moved = "model.layers.0.mlp.up_proj.weight"
    assert initial.keys() == weights.keys()
    assert not torch.equal(weights[moved], initial[moved])
    _assert_initial_and_rehearsal(run, initial)
    _assert_refused(run, saved, tmp_path)
    third = run.update(ROUNDS[2])
    after_three = _saved(run, tmp_path / "three")

    # Loaded, the run repeats its third update bit by bit.
    run.load(str(tmp_path / "two"))
    assert run.version == 2
    assert run.update(ROUNDS[2]) == third
    again = _saved(run, tmp_path / "three-again")
    _assert_equal(again, after_three)

    # A step on candidates is the learner's, too.
    learner = PolicyLearner(config)
    learner.load(tmp_path / "three-again")
    assert run.reinforce(CANDIDATES) == pytest.approx(learner.reinforce(CANDIDATES), rel=1e-5)
    assert run.version == 4
    assert_same_updates(_saved(run, tmp_path / "four"), learner._strategy.weights())

    # A worker's error ends the run, in one line.
    outside = dataclasses.replace(ROUNDS[0][0], chosen_token_ids=(10**6,))
    with pytest.raises(RuntimeError, match="index out of range") as failed:
        run.update([outside])
    assert "\n" not in str(failed.value)
    run.stop()
    _wait_for(lambda: not _run_processes())


def test_two_workers_are_killed_and_the_weights_are_as_if_they_were_not(
    config: PolicyTrainConfig,
    expected: list[AfterUpdate],
    start: Callable[[PolicyTrainConfig], PolicyTrainRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = start(
        dataclasses.replace(config, num_train_workers=2, snapshot_every=2, max_train_failures=2)
    )
    _assert_same(run.update(ROUNDS[0]), expected[0])

    # Between updates, before any snapshot: the first update is repeated, and then scored.
    _assert_same_scores(run.score(PROMPTS), expected[0].scores)
    _workers()[0].send_signal(signal.SIGKILL)
    _assert_same_scores(run.score(PROMPTS), expected[0].scores)
    _assert_same(run.update(ROUNDS[1]), expected[1])
    storage = Path(config.storage_path)
    _wait_for(lambda: [path.name for path in storage.glob("snapshot-*")] == ["snapshot-4"])
    _assert_same(run.update(ROUNDS[2]), expected[2])

    # In an update: one worker stands still, so that the other waits for its gradients.
    standing, waiting = _workers()
    standing.suspend()
    answers: list[Any] = []
    update = threading.Thread(target=lambda: answers.append(run.update(ROUNDS[3])))
    update.start()
    time.sleep(1.0)
    assert not answers
    # From the snapshot: what came before it is forgotten and could not be repeated.
    assert ray.get(run._feed.start.remote()).snapshot == str(storage / "snapshot-4")
    for worker in (waiting, standing):
        worker.send_signal(signal.SIGKILL)
    update.join()
    _assert_same(answers[0], expected[3])
    assert run.version == 4
    _assert_same_scores(run.score(PROMPTS), expected[3].scores)
    assert_same_updates(_saved(run, tmp_path / "four"), expected[3].weights)
    assert [path.name for path in storage.glob("snapshot-*")] == ["snapshot-6"]

    # A run that hangs, as one of its workers stands still, is ended all the same.
    monkeypatch.setattr("rllib_sea.policy_update.run.STOP_TIMEOUT_S", 2.0)
    standing, waiting = _workers()
    standing.suspend()
    errors: list[Exception] = []

    def try_to_update() -> None:
        try:
            run.update(ROUNDS[0])
        except Exception as error:
            errors.append(error)

    update = threading.Thread(target=try_to_update)
    update.start()
    run.stop()
    update.join(timeout=60)
    assert len(errors) == 1
    standing.resume()
    _wait_for(lambda: not _run_processes())


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_does_what_one_process_does(
    stage: int,
    config: PolicyTrainConfig,
    expected: list[AfterUpdate],
    start: Callable[[PolicyTrainConfig], PolicyTrainRun],
    tmp_path: Path,
) -> None:
    pytest.importorskip("deepspeed")
    run = start(
        dataclasses.replace(
            config, train_strategy="deepspeed", zero_stage=stage, num_train_workers=2
        )
    )
    for pairs, after in zip(ROUNDS[:2], expected, strict=False):
        _assert_same(run.update(pairs), after)
        _assert_same_scores(run.score(PROMPTS), after.scores)
    saved = _saved(run, tmp_path / "two")
    assert_same_updates(saved, expected[1].weights)
    weights = run.weights().tensors
    _assert_equal(weights, saved)
    AutoModelForCausalLM.from_pretrained(tmp_path / "two")
    _assert_initial_and_rehearsal(run, load_file(config.model_path + "/model.safetensors"))
    _assert_refused(run, saved, tmp_path)
    third = run.update(ROUNDS[2])
    _assert_same(third, expected[2])
    run.load(str(tmp_path / "two"))
    assert run.version == 2
    assert run.update(ROUNDS[2]) == third
    assert_same_updates(_saved(run, tmp_path / "three"), expected[2].weights)


def test_a_killed_worker_ends_the_run_in_one_clear_line(
    config: PolicyTrainConfig, start: Callable[[PolicyTrainConfig], PolicyTrainRun]
) -> None:
    run = start(config)
    run.update(ROUNDS[0])
    os.kill(_workers()[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError) as killed:
        run.update(ROUNDS[1])
    assert "\n" not in str(killed.value)
    assert "max_train_failures 0" in str(killed.value)
    with pytest.raises(RuntimeError, match="max_train_failures 0"):
        run.weights()
