from __future__ import annotations

from typing import Any

import pytest
from ray.tune.search.sample import Categorical, Float, Integer

from rllib_sea.cli.search_space import num_grid_variants, to_tune, variants
from text_duel.errors import ConfigError

WRITTEN: dict[str, Any] = {
    "gamma": {"grid_search": [0.5, 1.0]},
    "beta": {"loguniform": [0.01, 1.0]},
    "env_config": {"flip_noise": {"choice": [0.0, 0.1]}},
    "ensemble_size": {"randint": [1, 20]},
    "loss": "dpo",
}


def test_written_forms_become_tunes() -> None:
    space = to_tune(WRITTEN)
    assert space["gamma"] == {"grid_search": [0.5, 1.0]}
    assert isinstance(space["beta"], Float)
    assert isinstance(space["env_config"]["flip_noise"], Categorical)
    assert isinstance(space["ensemble_size"], Integer)
    assert space["loss"] == "dpo"
    assert WRITTEN["beta"] == {"loguniform": [0.01, 1.0]}


def test_a_value_in_a_list_is_searched() -> None:
    schedule = {"gamma": [[0, 1.0], [65, {"grid_search": [0.9, 0.7]}]]}
    assert variants(schedule) == [{"gamma": [[0, 1.0], [65, value]]} for value in (0.9, 0.7)]
    assert to_tune(schedule) == schedule


def test_variants_hold_every_value_and_both_ends() -> None:
    found = variants(WRITTEN)
    assert {v["gamma"] for v in found} == {0.5, 1.0}
    assert {v["beta"] for v in found} == {0.01, 1.0}
    assert {v["ensemble_size"] for v in found} == {1, 19}  # 20 is never drawn
    assert {v["env_config"]["flip_noise"] for v in found} == {0.0, 0.1}
    # 2 of the grid, and one more for each further value of the three draws.
    assert len(found) == 2 + 3
    assert num_grid_variants(WRITTEN) == 2


def test_a_plain_mapping_of_one_key_is_no_search() -> None:
    config = {"env_config": {"prompts": "tldr_mini"}, "sampler_config": {"choice": "x"}}
    assert variants(config) == [config]


@pytest.mark.parametrize(
    "form",
    [
        {"grid_search": []},
        {"grid_search": 3},
        {"uniform": [1]},
        {"uniform": [2, 1]},
        {"loguniform": [0, 1]},
        {"randint": [0.5, 2]},
        {"eval": "1"},
        {"gridsearch": [1]},
    ],
)
def test_forms_that_are_not_understood(form: Any) -> None:
    with pytest.raises(ConfigError, match=r"config\.beta"):
        variants({"beta": form})
