from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_sea.cli.experiments import experiments_from_file
from rllib_sea.cli.extends import merge, read_experiments
from rllib_sea.cli.options import TrainOptions
from rllib_sea.cli.recipes import find_recipe
from rllib_sea.cli.yaml_files import read_yaml
from text_duel import ConfigError

BASE = """
base:
  run: SEA
  config:
    env_config: {prompts: tldr_mini, limit: 8}
    gamma: [[0, 1.0], [64, 0.5]]
    query_budget: 8
  checkpoint_config: {num_to_keep: 1}
"""


def write(folder: Path, **files: str) -> Path:
    """Writes files by their names without `.yaml`; returns the first's path."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_mappings_merge_and_all_else_replaces() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}
    changes: dict[str, Any] = {"a": {"c": [3]}, "d": None, "f": {"g": 1}, "h": 2}
    assert merge(base, changes) == {
        "a": {"b": 1, "c": [3]},
        "d": None,
        "f": {"g": 1},
        "h": 2,
    }
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}


def test_a_file_extends_one_beside_it_and_that_another(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    file = write(
        tmp_path,
        mine="mine: {extends: below/middle.yaml, config: {gamma: 1.0, env_config: {limit: 4}}}",
    )
    write(
        tmp_path / "below",
        middle="middle: {extends: ../base.yaml, config: {query_budget: null}, num_samples: 2}",
    )
    write(tmp_path, base=BASE)
    assert read_experiments(file) == {
        "mine": {
            "run": "SEA",
            "config": {
                "env_config": {"prompts": "tldr_mini", "limit": 4},
                "gamma": 1.0,
                "query_budget": None,
            },
            "checkpoint_config": {"num_to_keep": 1},
            "num_samples": 2,
        }
    }


def test_a_file_extends_a_recipe(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        mine="mine: {extends: sea_tldr, config: {query_budget: 32, sampler: transformers}}",
    )
    (experiment,) = experiments_from_file(file, TrainOptions())
    (recipe,) = read_yaml(find_recipe("sea_tldr")).values()
    assert experiment.name == "mine"
    changes = {"query_budget": 32, "sampler": "transformers", "env": "text_duel/TLDR-v0"}
    assert experiment.spec["config"] == recipe["config"] | changes


def test_each_experiment_of_a_file_may_extend_one(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        mine="one: {extends: ./base.yaml, num_samples: 2}\ntwo: {run: SEA}",
        base=BASE,
    )
    one, two = read_experiments(file).values()
    assert (one["num_samples"], one["config"]["query_budget"]) == (2, 8)
    assert two == {"run": "SEA"}


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        ("sea_tldrr", r"mine: extends: no recipe 'sea_tldrr' \(did you mean 'sea_tldr'\?\)"),
        ("none.yaml", r"mine: extends: cannot read .*none\.yaml: No such file"),
        ("./mine.yaml", r"'./mine\.yaml' leads back .*: mine\.yaml -> mine\.yaml"),
        (
            "circle.yaml",
            r"mine: extends: c: extends: 'mine\.yaml' leads back to where it is extended: "
            r"mine\.yaml -> circle\.yaml -> mine\.yaml",
        ),
        ("two.yaml", r"mine: extends: .*two\.yaml has 2 experiments, expected one"),
        ("sea_tldr_search", r"sea_tldr_search\.yaml has 2 experiments, expected one"),
        ("empty.yaml", r"empty\.yaml has 0 experiments, expected one"),
        ("scalar.yaml", r"scalar\.yaml has 0 experiments, expected one"),
        ("[sea_tldr]", r"\['sea_tldr'\] is neither a recipe's name nor a path"),
        ("null", r"None is neither a recipe's name nor a path"),
    ],
)
def test_what_cannot_be_extended_is_said_in_one_line(
    tmp_path: Path, mine: str, message: str
) -> None:
    file = write(
        tmp_path,
        mine=f"mine: {{extends: {mine}}}",
        circle="c: {extends: mine.yaml}",
        two="a: {run: SEA}\nb: {run: SEA}",
        empty="",
        scalar="a: 3",
    )
    with pytest.raises(ConfigError, match=message) as error:
        experiments_from_file(file, TrainOptions())
    assert "\n" not in str(error.value)


def test_only_a_mapping_extends(tmp_path: Path) -> None:
    file = write(tmp_path, mine="mine: extends")
    with pytest.raises(ConfigError, match="mine: 'extends' is not a mapping of keys to values"):
        experiments_from_file(file, TrainOptions())
