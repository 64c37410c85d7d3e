"""What is run: the file, and the options that win over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.tune import CheckpointConfig
from ray.tune.schedulers import FIFOScheduler

from rllib_sea.cli.experiments import (
    Experiment,
    experiment_from_options,
    experiments_from_file,
)
from rllib_sea.cli.options import TrainOptions
from rllib_sea.cli.recipes import recipes
from rllib_sea.cli.tune_runs import max_concurrent_trials
from text_duel.errors import ConfigError

SPEC: dict[str, Any] = {
    "run": "Toy",
    "stop": {"round": 3},
    "config": {"quality": 2},
    "num_samples": 2,
    "checkpoint_config": {"checkpoint_frequency": 1, "num_to_keep": 2},
    "storage_path": "results",
}


@pytest.fixture(autouse=True)
def registered(rllib: Any) -> None:
    """The names of the trainables, as `rllib` registers them."""


def from_file(tmp_path: Path, *specs: Any, **options: Any) -> list[Experiment]:
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump({f"exp{i}": spec for i, spec in enumerate(specs)}))
    return experiments_from_file(file, TrainOptions(**options))


def test_what_the_file_says_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = from_file(tmp_path, SPEC, {"run": "Toy"})
    assert (first.name, second.name) == ("exp0", "exp1")
    assert first.spec["stop"] == {"round": 3}
    assert first.spec["config"] == {"quality": 2}
    assert first.spec["num_samples"] == 2
    assert first.checkpoint == CheckpointConfig(
        checkpoint_at_end=False, checkpoint_frequency=1, num_to_keep=2
    )
    assert first.folder == tmp_path / "results" / "exp0"
    assert second.folder == Path.home() / "ray_results" / "exp1"
    assert (second.spec["num_samples"], second.spec["stop"]) == (1, {})
    assert type(second.scheduler) is FIFOScheduler


def test_a_given_option_wins(tmp_path: Path) -> None:
    (experiment,) = from_file(
        tmp_path,
        SPEC,
        stop="{round: 5}",
        num_samples=1,
        experiment_name="mine",
        storage_path="s3://bucket/path",
    )
    assert experiment.name == "mine"
    assert experiment.spec["stop"] == {"round": 5}
    assert experiment.spec["num_samples"] == 1
    assert experiment.spec["storage_path"] == "s3://bucket/path"
    assert experiment.folder is None
    # The file's other keys stand.
    assert experiment.checkpoint.num_to_keep == 2


def test_the_scheduler_is_the_one_that_is_written(tmp_path: Path) -> None:
    config = {"metric": "quality", "mode": "max", "max_t": 6}
    written = SPEC | {"scheduler": "async_hyperband", "scheduler_config": config}
    (experiment,) = from_file(tmp_path, written)
    assert experiment.scheduler.metric == "quality"


def test_options_alone_make_an_experiment() -> None:
    experiment = experiment_from_options(
        "SEA",
        "text_duel/TLDR-v0",
        '{"query_budget": 8, "prompts_per_round": 4, "sampler": "transformers"}',
        TrainOptions(stop='{"num_oracle_queries": 4}'),
    )
    assert experiment.name == "SEA"
    assert experiment.spec["config"]["env"] == "text_duel/TLDR-v0"
    assert experiment.spec["stop"] == {"num_oracle_queries": 4}
    # The policy of a finished run is kept unless the user does not want it.
    assert experiment.checkpoint.checkpoint_at_end is True


def test_every_recipe_that_needs_no_hub_is_an_experiment() -> None:
    paths = [path for name, path in recipes().items() if "pythia" not in name]
    assert paths
    for path in paths:
        for experiment in experiments_from_file(path, TrainOptions()):
            assert experiment.spec["run"] == "SEA"
            assert experiment.is_sea


def test_trials_that_fit_the_cluster(tmp_path: Path) -> None:
    (toy,) = from_file(tmp_path, SPEC)
    # Tune counts a trainable that is not SEA by itself.
    assert max_concurrent_trials(toy, {"CPU": 2}) is None
    sea = replace(toy, cpus=2.0, gpus=0.0)
    assert max_concurrent_trials(sea, {"CPU": 5}) == 2
    assert max_concurrent_trials(replace(sea, cpus=0.1), {"CPU": 0.3}) == 3
    assert max_concurrent_trials(replace(sea, gpus=0.5), {"CPU": 64, "GPU": 2}) == 4
    with pytest.raises(ConfigError, match=r"exp0: one trial needs 2 CPUs .* the cluster has 1"):
        max_concurrent_trials(sea, {"CPU": 1})
    with pytest.raises(ConfigError, match=r"one trial needs 1 GPUs .* the cluster has 0"):
        max_concurrent_trials(replace(sea, gpus=1.0), {"CPU": 64})


def test_more_trials_at_once_than_fit_are_refused(tmp_path: Path) -> None:
    (toy,) = from_file(tmp_path, SPEC | {"max_concurrent_trials": 2})
    sea = replace(toy, cpus=2.0)
    assert max_concurrent_trials(toy, {"CPU": 1}) == 2  # Tune lets the second wait
    assert max_concurrent_trials(sea, {"CPU": 16}) == 2
    with pytest.raises(ConfigError) as caught:
        max_concurrent_trials(sea, {"CPU": 3})
    assert str(caught.value) == (
        "exp0: max_concurrent_trials 2: one trial needs 2 CPUs, the cluster has 3: 1 fits at once"
    )
