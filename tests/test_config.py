"""SEAConfig: groups, documentation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_sea import SEAConfig
from text_duel import ConfigError

DOCS = Path(__file__).parents[1] / "docs"


def own_keys() -> set[str]:
    return set(SEAConfig().to_dict()) - set(AlgorithmConfig().to_dict())


def test_every_key_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    assert not [key for key in own_keys() if f"`{key}`" not in text]


def test_the_groups_set_every_key_of_their_own() -> None:
    groups = (
        SEAConfig.policy,
        SEAConfig.duels,
        SEAConfig.reward_model,
        SEAConfig.preference_learning,
        SEAConfig.evaluation,
        SEAConfig.resources,
    )
    taken = {name for group in groups for name in group.__kwdefaults__ or {}}
    assert own_keys() <= taken


def test_groups_set_values_and_chain(tiny_policy: Path) -> None:
    config = (
        SEAConfig()
        .policy(policy_model=str(tiny_policy), max_new_tokens=7)
        .duels(query_budget=9, gamma=0.5)
        .reward_model(ensemble_size=3)
        .preference_learning(loss="ipo")
        .evaluation(evaluation_num_prompts=4, evaluation_interval=1)
        .resources(num_threads=1)
    )
    config.validate()
    assert (config.max_new_tokens, config.gamma, config.loss) == (7, 0.5, "ipo")
    assert config.policy_train_config().loss == "ipo"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gama", 0.5, "unknown config key 'gama' (did you mean 'gamma'?)"),
        ("lr", 0.1, "config key 'lr' has no effect in SEA: set policy_lr or erm_lr"),
        ("gamma", 1.5, "gamma: 1.5 is outside [0, 1]"),
        ("gamma", [[1, 0.5]], "queries start at 0"),
        ("num_candidates", 1, "num_candidates: 1 is less than 2"),
        ("ensemble_size", 0, "ensemble_size: 0 is less than 1"),
        ("query_budget", 0, "query_budget: 0 is less than 1"),
        ("policy_betas", 0.9, "policy_betas: 0.9 is not a list of two numbers"),
        ("policy_betas", [0.9, 1.0], "policy_betas: 1.0 is outside [0, 1)"),
        ("loss", "hinge", "loss: 'hinge' is none of dpo, ipo, ipo_mean, slic"),
        ("sampler", "vlm", "did you mean 'vllm'?"),
        ("policy_model", "no/such/folder", "looked for the folder"),
        ("evaluation_split", "train", "held-out prompts are training prompts"),
        ("policy_lr", "5e-6", "policy_lr: '5e-6' is not a number but text"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tiny_policy: Path, key: str, value: object, message: str
) -> None:
    settings = {"policy_model": str(tiny_policy), "query_budget": 8, key: value}
    with pytest.raises(ConfigError) as error:
        SEAConfig.from_user_dict(settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
