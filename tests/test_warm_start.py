"""A run that starts from labels that exist, on real parts, with a tiny random model."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

import rllib_sea.env_runners.sampling
import rllib_sea.reward_model.part
from rllib_sea import SEA
from rllib_sea.preference_log.importing import import_preferences
from rllib_sea.preference_log.log import LOG_FILE, PreferenceReader
from rllib_sea.reward_model.ensemble import EnsembleMLP
from tests.helpers.sea_runs import measured, tiny_config

NUM_LABELS = 100
WORDS = ["cat", "dog", "sun", "moon", "tree", "river", "stone", "cloud", "bird", "fish"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@dataclass
class WarmRun:
    """A run of one round from labels, and the same round once more.

    Attributes:
        result: The round's.
        again: The result after all was taken back to before the first round.
        replay: The replay after the round.
        strengths: Of the regulariser, in each update.
        cold: The ensemble before.
        warm: The ensemble after.
        checkpoint: Written after the round.
        log: The labels.
        num_logged: Questions in the run's own log.
    """

    result: dict[str, Any]
    again: dict[str, Any]
    replay: dict[str, np.ndarray]
    strengths: list[float]
    cold: EnsembleMLP
    warm: EnsembleMLP
    checkpoint: Path
    log: Path
    num_logged: int


def ensemble(algorithm: SEA) -> EnsembleMLP:
    return copy.deepcopy(algorithm.learner_group._learner.module[DEFAULT_MODULE_ID].ensemble)


def accuracy(members: EnsembleMLP, chosen: np.ndarray, rejected: np.ndarray) -> float:
    """Share of labels that the mean reward is right about."""
    with torch.no_grad():
        good, bad = (members(torch.from_numpy(f)).mean(0) for f in (chosen, rejected))
    return float((good > bad).float().mean())


def write_log(folder: Path, model: Path) -> Path:
    """Labels for responses of three words, to prompts that the environment does not have."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(NUM_LABELS):
        chosen, rejected = (" ".join(rng.choice(WORDS, n)) for n in (3, rng.integers(5, 9)))
        rows.append({"prompt": f"Post {i % 7}", "chosen": chosen, "rejected": rejected})
    (folder / "team.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_preferences(folder / "team.jsonl", folder / "team.sqlite", str(model))
    return folder / "team.sqlite"


@pytest.fixture(scope="module")
def warm_run(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> WarmRun:
    folder = tmp_path_factory.mktemp("warm")
    log = write_log(folder, tiny_policy)
    config = tiny_config(
        tiny_policy,
        initial_preferences=str(log),
        erm_bootstrap=0.6,
        erm_minibatch_size=32,
        update_policy=False,
    )
    strengths = []
    strength = rllib_sea.reward_model.part.regularisation_strength

    def record(*args: Any) -> float:
        strengths.append(strength(*args))
        return strengths[-1]

    algorithm = config.build_algo()
    with pytest.MonkeyPatch.context() as patch:
        # More calls than one.
        patch.setattr(rllib_sea.env_runners.sampling, "ENCODED_PER_CALL", 15)
        patch.setattr(rllib_sea.reward_model.part, "regularisation_strength", record)
        try:
            before = algorithm.save_to_path(folder / "before")
            cold = ensemble(algorithm)
            result = algorithm.train()
            warm, replay = ensemble(algorithm), algorithm.reward_model.replay.get_state()
            checkpoint = algorithm.save_to_path(folder / "after")
            with PreferenceReader(algorithm.folder / LOG_FILE) as own:
                num_logged = own.num_questions()
            # As a run that was killed before it wrote a checkpoint.
            algorithm.restore_from_path(before)
            again = algorithm.train()
        finally:
            algorithm.stop()
    return WarmRun(result, again, replay, strengths, cold, warm, Path(checkpoint), log, num_logged)


def test_the_ensemble_knows_the_labels_and_no_query_is_counted(warm_run: WarmRun) -> None:
    result = warm_run.result
    assert result["num_initial_preferences"] == NUM_LABELS
    assert result["num_oracle_queries"] == warm_run.num_logged == 8
    assert not result["done"]
    assert f"the ERM starts from {NUM_LABELS} labels of {warm_run.log}" in result["notes"]
    assert result["seconds"]["initial_preferences"] > 0
    chosen, rejected, masks = (warm_run.replay[name] for name in ("chosen", "rejected", "masks"))
    assert len(chosen) == len(rejected) == len(masks) == NUM_LABELS + 8
    assert 0.5 < masks[:NUM_LABELS].mean() < 0.7
    some = chosen[:NUM_LABELS], rejected[:NUM_LABELS]
    assert accuracy(warm_run.warm, *some) > 0.95
    assert accuracy(warm_run.warm, *some) > accuracy(warm_run.cold, *some) + 0.2


def test_updates_and_their_regulariser_are_those_of_a_run_with_these_labels(
    warm_run: WarmRun,
) -> None:
    """13 rounds of 8 for 100 labels, then the first round with 108; lambda is 0.5."""
    once = [0.5 * 32 / 100] * 13 + [0.5 * 32 / 108]
    assert warm_run.strengths == pytest.approx(once * 2)


def test_a_run_that_begins_anew_learns_them_anew_to_the_same_result(warm_run: WarmRun) -> None:
    assert measured([warm_run.again]) == measured([warm_run.result])
    assert warm_run.again["num_initial_preferences"] == NUM_LABELS


def test_a_checkpoint_has_the_labels_and_does_not_learn_them_twice(warm_run: WarmRun) -> None:
    warm_run.log.unlink()  # it is not needed any more
    algorithm = SEA.from_checkpoint(str(warm_run.checkpoint))
    try:
        result = algorithm.train()
        labels = len(algorithm.reward_model.replay)
    finally:
        algorithm.stop()
    assert result["num_initial_preferences"] == NUM_LABELS
    assert result["num_oracle_queries"] == 16
    assert labels == NUM_LABELS + 16
    assert "notes" not in result
    assert "initial_preferences" not in result["seconds"]
