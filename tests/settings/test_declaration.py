"""A key is declared once; what follows from it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from rllib_sea import SEAConfig
from rllib_sea.settings.declaration import check_keys, keys_of, method_name
from rllib_sea.settings.duels import Duels
from rllib_sea.settings.groups import GROUPS
from rllib_sea.settings.preference_learning import PreferenceLearning, check_zero_stage
from rllib_sea.settings.reference import FILE, table, with_tables
from text_duel import ConfigError


def test_no_two_groups_declare_one_key() -> None:
    names = [key.name for group in GROUPS for key in keys_of(group)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("group", GROUPS)
def test_every_default_passes_its_check(group: type) -> None:
    check_keys(group(), group)


def test_a_group_is_set_by_keywords_that_are_visible() -> None:
    assert method_name(PreferenceLearning) == "preference_learning"
    parameters = inspect.signature(SEAConfig().duels).parameters
    assert list(parameters) == [key.name for key in keys_of(Duels)]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert parameters["query_budget"].annotation == int | None
    assert parameters["num_candidates"].default == 20
    assert "    query_budget: Labels after which the run ends" in (SEAConfig.duels.__doc__ or "")
    assert "evaluation_split: Split" in (SEAConfig.evaluation.__doc__ or "")


def test_a_group_refuses_other_keywords() -> None:
    wrong: Any = {"query_budgt": 3}
    with pytest.raises(TypeError, match=r"duels\(\) got an .* 'query_budgt' \(did you mean 'query"):
        SEAConfig().duels(**wrong)


def test_configurations_share_no_default() -> None:
    one, other = SEAConfig(), SEAConfig()
    one.strategy_config["variance"] = "logit"
    one.env_config["limit"] = 3
    assert other.strategy_config == {}
    assert Duels().strategy_config == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [(4, "'4' is none of 1, 2, 3"), (0, "0 is less than 1"), (True, "True is not a whole number")],
)
def test_the_stage_is_one_of_three(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"zero_stage: {message}"):
        check_zero_stage("zero_stage", value)


def test_the_tables_of_the_documentation_are_the_declarations() -> None:
    text = FILE.read_text()
    assert with_tables(text) == text, "run `python -m rllib_sea.settings.reference`"
    for group in GROUPS:
        assert text.count(table(group)) == 1, group


def test_a_table_speaks_as_a_recipe_does() -> None:
    duels, learning = table(Duels), table(PreferenceLearning)
    assert "| `query_budget` | null | Labels after which the run ends" in duels
    assert "a name in [exploration.md](exploration.md). |" in duels
    assert "(results/bandit/README.md#what-makes-sea-fast-and-what-does-not)" in duels
    assert "| `policy_lr` | 5e-7 |" in learning
    assert "| `update_policy` | true | false: the policy" in learning
    assert "None" not in duels + learning
    with pytest.raises(KeyError):
        with_tables("<!-- keys: Nothing -->\n<!-- end of keys -->")
