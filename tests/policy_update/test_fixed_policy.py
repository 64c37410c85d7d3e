"""What stands in for the trainer of a policy that is not trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_sea.policy_update.trainer import FixedPolicy, PolicyTrainer
from tests.helpers.preference_pairs import random_pairs, random_prompts


def test_it_has_the_trainers_interface() -> None:
    public = {name for name in vars(PolicyTrainer) if not name.startswith("_")}
    assert public - {"save_to_path", "restore_from_path"} <= set(vars(FixedPolicy))


def test_it_learns_nothing() -> None:
    policy = FixedPolicy()
    policy.start()
    assert policy.update(random_pairs(2)) == {}
    assert policy.version == 0
    with pytest.raises(RuntimeError, match="not trained"):
        policy.weights()
    with pytest.raises(RuntimeError, match="not trained"):
        policy.score(random_prompts(1))
    policy.stop()


def test_its_checkpoint_is_small_and_restores(tmp_path: Path) -> None:
    policy = FixedPolicy()
    folder = tmp_path / "policy"
    policy.save_to_path(folder)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10_000
    policy.restore_from_path(folder)
    assert FixedPolicy.from_checkpoint(folder).version == 0
