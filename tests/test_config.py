"""SEAConfig: groups, documentation, and what is refused."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_sea import SEAConfig
from rllib_sea.exploration.mixing import gamma_at
from rllib_sea.settings.declaration import keys_of, method_name
from rllib_sea.settings.groups import GROUPS
from rllib_sea.settings.preference_learning import PreferenceLearning
from rllib_sea.settings.rllib import RLlibKeys
from text_duel import ConfigError

DOCS = Path(__file__).parents[1] / "docs"


def own_keys() -> set[str]:
    return set(SEAConfig().to_dict()) - set(AlgorithmConfig().to_dict())


PEOPLE = {"env_config": {"oracle": "people"}, "measure_online_win_rate": False}


def test_every_key_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    assert not [key for key in own_keys() if f"`{key}`" not in text]


def test_the_groups_set_every_key_of_their_own() -> None:
    taken: set[str] = set()
    for group in GROUPS:
        if group is RLlibKeys:
            continue
        method = getattr(SEAConfig(), method_name(group))
        parameters = inspect.signature(method).parameters
        names = [p.name for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        assert names == [key.name for key in keys_of(group)]
        taken.update(names)
    assert own_keys() <= taken


def test_the_train_run_gets_the_keys_of_its_group() -> None:
    config = SEAConfig().preference_learning(
        policy_lr=1e-3, policy_replay=1, train_precision="fp32", max_train_failures=7
    )
    config.duels(query_budget=256, gamma=1.0).resources(num_threads=3).debugging(seed=5)
    run = config.policy_train_config()
    for key in keys_of(PreferenceLearning):
        assert getattr(run, key.name) == getattr(config, key.name), key.name
    # Two rounds of 128 prompts, each with a step more.
    assert (run.total_steps, run.threads_per_worker, run.seed) == (4, 3, 5)


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


def test_rounds_until_the_budget_is_used() -> None:
    config = SEAConfig().duels(
        query_budget=256, prompts_per_round=16, gamma=[[0, 1.0], [64, 1.0], [65, 0.5]]
    )
    # Five rounds of 16, the last of them begun at 64 queries, and 176 more by 8 a round.
    assert config.expected_rounds() == 5 + 22
    assert config.expected_rounds(94) == 21  # 162 by 8
    assert config.expected_rounds(256) == 0
    # 16, then 13 1/3; 14 1/3 after 10 queries, then 12.
    sloping = config.copy().duels(gamma=[[0, 1.0], [48, 0.5]], query_budget=25)
    assert [sloping.expected_rounds(asked) for asked in (0, 10, 23)] == [2, 2, 1]
    # A billion rounds are not counted one by one.
    assert config.copy().duels(gamma=1e-9).expected_rounds(240) == 10**9
    assert config.duels(query_budget=None).expected_rounds() is None


def test_without_a_gamma_the_reward_model_labels_half_after_two_rounds() -> None:
    config = SEAConfig().duels(prompts_per_round=16)
    shares = [gamma_at(config.mixture, queries) for queries in (0, 16, 31, 32, 33, 5000)]
    assert shares == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    assert config.duels(gamma=0.7).mixture == 0.7


@pytest.mark.parametrize(
    "keys",
    [
        {"exploration_strategy": "xpo"},
        {"exploration_strategy": "apl", "prompt_acquisition": "entropy", "prompt_pool_size": 256},
        {"update_policy": False},
    ],
)
def test_without_a_gamma_all_is_asked_where_the_reward_model_labels_no_pairs(
    keys: dict[str, Any],
) -> None:
    assert SEAConfig().update_from_dict(keys).mixture == 1.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gama", 0.5, "unknown config key 'gama' (did you mean 'gamma'?)"),
        ("lr", 0.1, "config key 'lr' has no effect in SEA: set policy_lr or erm_lr"),
        ("gamma", 1.5, "gamma: 1.5 is outside [0, 1]"),
        ("gamma", [[1, 0.5]], "queries start at 0"),
        ("gamma", 0.0, "gamma: 0 asks the oracle nothing"),
        ("num_candidates", 1, "num_candidates: 1 is less than 2"),
        ("ensemble_size", 0, "ensemble_size: 0 is less than 1"),
        ("query_budget", 0, "query_budget: 0 is less than 1"),
        ("policy_betas", 0.9, "policy_betas: 0.9 is not a list of two numbers"),
        ("policy_betas", [0.9, 1.0], "policy_betas: 1.0 is outside [0, 1)"),
        ("loss", "hinge", "loss: 'hinge' is none of cdpo, dpo, ipo, ipo_mean, rdpo"),
        ("sampler", "vlm", "did you mean 'vllm'?"),
        ("policy_model", "no/such/folder", "looked for the folder"),
        ("evaluation_split", "train", "evaluation_split: 'train' is the split that is trained on"),
        ("evaluation_split", "tests", "split: 'tldr_mini' has no split 'tests', only test, train"),
        ("held_out_share", 0, "held_out_share: 0 is outside (0, 1]"),
        ("evaluation_config", {"env_config": {}}, "set evaluation_split or held_out_share"),
        ("policy_lr", "5e-6", "policy_lr: '5e-6' is not a number but text"),
        ("initial_preferences", "no.sqlite", "initial_preferences: there is no preference log no"),
        ("initial_preferences", "a.jsonl", "make one with `rllib-sea preferences import`"),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy_config": {"varience": "logit"}},
            "strategy_config: unknown option 'varience'; there are variance "
            "(did you mean 'variance'?)",
        ),
        (
            {"strategy_config": {"variance": "logits"}},
            "strategy_config: variance: 'logits' is none of logit, probability "
            "(did you mean 'logit'?)",
        ),
        (
            {"exploration_strategy": "ee_ts", "strategy_config": {"variance": "logit"}},
            "strategy_config: unknown option 'variance'; there are none",
        ),
        (
            {"exploration_strategy": "maxmin_lcb", "strategy_config": {"confidence": -1}},
            "strategy_config: confidence: -1 is outside [0, inf)",
        ),
        (
            {"sampler_config": {"max_num_seq": 8}},
            "sampler_config: unknown option 'max_num_seq'; there are num_threads, kv_cache_gib, "
            "gpu_memory_utilization, dtype, max_num_seqs, enforce_eager "
            "(did you mean 'max_num_seqs'?)",
        ),
        (
            {"sampler_config": {"dtype": "bf16"}},
            "sampler_config.dtype: 'bf16' is none of auto, bfloat16, float16, float32",
        ),
        (
            {"sampler": "transformers", "sampler_config": {"batch_size": 0}},
            "sampler_config.batch_size: 0 is less than 1",
        ),
        ({"strategy_config": 3}, "strategy_config: 3 is not a mapping of options to values"),
        ({"exploration_strategy": ["bai_ts"]}, "exploration_strategy: ['bai_ts'] is none of apl"),
        (
            {"exploration_strategy": "apl", "loss": "ipo"},
            "exploration_strategy: apl is not defined for loss ipo (expected dpo)",
        ),
        (
            {"exploration_strategy": "xpo", "loss": "slic"},
            "exploration_strategy: xpo is not defined for loss slic (expected dpo)",
        ),
        (
            {"prompt_acquisition": "entropi", "prompt_pool_size": 256},
            "prompt_acquisition: 'entropi' is none of certainty, entropy",
        ),
        (
            {"prompt_acquisition": "entropy"},
            "prompt_acquisition: entropy needs prompt_pool_size, the number of prompts",
        ),
        (
            {"prompt_acquisition": "entropy", "prompt_pool_size": 128},
            "prompt_pool_size: 128 is less than 129",
        ),
        (
            {"prompt_pool_size": 256},
            "prompt_pool_size: 256 has no effect without prompt_acquisition",
        ),
        (
            {"exploration_strategy": "xpo", "gamma": 0.7},
            "ERM label pairs, for which exploration_strategy xpo is not defined",
        ),
        (
            {"prompt_acquisition": "entropy", "prompt_pool_size": 256, "gamma": 0.7},
            "ERM label pairs, for which prompt_acquisition entropy is not defined",
        ),
        (
            {"exploration_strategy": "apl", "update_policy": False},
            "update_policy: false leaves the implicit rewards at 0",
        ),
        (
            {
                "prompt_acquisition": "certainty",
                "prompt_pool_size": 256,
                "update_policy": False,
            },
            "update_policy: false leaves the implicit rewards at 0",
        ),
        ({"update_policy": None}, "update_policy: None is not true or false"),
        ({"num_train_workers": -1}, "num_train_workers: -1 is less than 0"),
        (
            {"num_train_workers": 0, "train_strategy": "deepspeed"},
            "num_train_workers: 0 updates the policy without Ray Train, which train_strategy "
            "deepspeed needs (expected at least 1)",
        ),
        (
            {"num_train_workers": 0, "num_gpus_per_train_worker": 0.5},
            "num_gpus_per_train_worker: 0.5 has no effect with num_train_workers 0",
        ),
        (
            {"num_env_runners": 0, "num_gpus_per_env_runner": 0.5},
            "num_gpus_per_env_runner: 0.5 has no effect with num_env_runners 0",
        ),
        ({"zero_stage": 4}, "zero_stage: '4' is none of 1, 2, 3"),
        ({"train_precision": "fp16"}, "train_precision: 'fp16' is none of auto, bf16, fp32"),
        ({"lr_schedule": "linear"}, "lr_schedule: 'linear' is none of constant, cosine"),
        (
            {
                "train_strategy": "deepspeed",
                "loss": "reinforce",
                "loss_config": {"anchor_decay": 0.9},
            },
            "loss_config: anchor_decay 0.9 averages weights that every worker has, which "
            "train_strategy deepspeed spreads (expected ddp)",
        ),
        (
            {"kl_target": 3.0, "loss": "reinforce", "loss_config": {"anchor_decay": 0.9}},
            "kl_target: 3 is a divergence from the reference policy, which is not measured with "
            "anchor_decay 0.9 (expected 1)",
        ),
        (
            {"kl_target": 3.0, "query_budget": None, "lr_schedule": "constant"},
            "kl_target: 3 is what is reached at the end of query_budget, which is null",
        ),
        ({"kl_target": 0}, "kl_target: 0 is outside (0, inf)"),
        ({"train_strategy": "dp"}, "train_strategy: 'dp' is none of ddp, deepspeed"),
        ({"optimism": "xpo"}, "set exploration_strategy xpo, not bai_ts"),
        (
            {"optimism": "slem", "exploration_strategy": "xpo"},
            "optimism: 'slem' is none of selm, xpo (did you mean 'selm'?)",
        ),
        (
            {"optimism": "selm", "optimism_alpha": 0, "exploration_strategy": "xpo"},
            "optimism_alpha: 0 is outside (0, inf)",
        ),
        (
            {
                "measure_candidate_scores": True,
                "env_config": {
                    "oracle": "tests.helpers.counting_oracle:CountingOracle",
                    "oracle_config": {"file": "questions"},
                },
            },
            "measure_candidate_scores: the oracle "
            "tests.helpers.counting_oracle:CountingOracle has no scores",
        ),
        ({"policy_sync_interval": 0}, "policy_sync_interval: 0 is less than 1"),
        ({"erm_bootstrap": 0}, "erm_bootstrap: 0 is outside (0, 1]"),
        ({"erm_bootstrap": 1.5}, "erm_bootstrap: 1.5 is outside (0, 1]"),
        ({"erm_prior_scale": -1}, "erm_prior_scale: -1 is outside [0, inf)"),
        ({"erm_prior_hidden": [0]}, "erm_prior_hidden: 0 is less than 1"),
        ({"evaluation_best_of_n": 1}, "evaluation_best_of_n: 1 is less than 2"),
        (
            {"loss_config": 3},
            "loss_config: 3 is not a mapping of options to values",
        ),
        (
            {"update_policy": False, "gamma": 0.7},
            "ERM label pairs, for which update_policy false is not defined",
        ),
        (
            {"loss_config": {"label_smoothing": 0.1}},
            "loss_config: unknown option 'label_smoothing'; there are none",
        ),
        (
            {"loss": "cdpo", "loss_config": {"label_smoothing": 0.5}},
            "loss_config: label_smoothing: 0.5 is outside [0, 0.5)",
        ),
        ({"ties": "halves"}, "ties: 'halves' is none of davidson, drop, rao_kupper, soft"),
        ({"ties": "davidson"}, "tie_margin: ties davidson needs it, a number above 0"),
        (
            {"ties": "rao_kupper", "tie_margin": 0},
            "tie_margin: 0 is outside (0, inf)",
        ),
        ({"tie_margin": 1.0}, "tie_margin: 1.0 has no effect with ties drop"),
        ({"ties": "soft", "tie_margin": 1.0}, "tie_margin: 1.0 has no effect with ties soft"),
        (
            {"ties": "davidson", "tie_margin": 1.0, "loss": "simpo"},
            "ties, loss: 'davidson' is defined for the loss 'dpo' only, not 'simpo'",
        ),
        (
            {"loss": "reinforce", "policy_replay": 1},
            "policy_replay: 1 has no effect with loss reinforce",
        ),
        (
            {"loss": "reinforce", "loss_config": {"extremes": "4"}},
            "loss_config: extremes: '4' is not a whole number",
        ),
        (
            {"loss": "reinforce", "loss_config": {"nugde": 1}},
            "loss_config: unknown option 'nugde'",
        ),
        (
            {"loss": "reinforce", "loss_config": {"extremes": 22}},
            "loss_config: extremes: 22 is more than num_candidates 20",
        ),
        ({"loss": ["dpo"]}, "loss: ['dpo'] is none of cdpo, dpo"),
        ({"synthetic_pair": "best"}, "synthetic_pair: 'best' is none of best_vs_worst, bounds"),
        ({"synthetic_labels": "firm"}, "synthetic_labels: 'firm' is none of hard, soft"),
        ({"synthetic_agreement": 90}, "synthetic_agreement: 90 is outside [0, 1]"),
        ({"synthetic_cut_wins": "no"}, "synthetic_cut_wins: 'no' is not true or false"),
        ({"audit_threshold": 60, "gamma": 0.5}, "audit_threshold: 60 is outside [0, 1]"),
        (
            {"audit_threshold": 0.6, "gamma": 1.0},
            "audit_threshold: 0.6 has no effect with gamma 1.0",
        ),
        (
            {"audit_share": 0.05, "gamma": 0.5},
            "audit_share: 0.05 has no effect without audit_threshold",
        ),
        (
            {
                "audit_share": 0.05,
                "audit_threshold": 0.6,
                "gamma": 0.5,
                "synthetic_pair": "selected_pair",
            },
            "audit_share: 0.05 has no effect with synthetic_pair selected_pair",
        ),
        (
            PEOPLE | {"evaluation_samples": 4},
            "evaluation_samples: 4 has no effect with the oracle people",
        ),
        (
            {"evaluation_questions": 4},
            "evaluation_questions: 4 has no effect with the oracle embedding",
        ),
        (
            PEOPLE | {"evaluation_questions": 4, "update_policy": False},
            "evaluation_questions: 4 has no effect with update_policy false",
        ),
        (
            PEOPLE | {"evaluation_questions": 4, "evaluation_num_prompts": 3},
            "evaluation_questions: 4 is more than the 3 held-out prompts",
        ),
        ({"stop_when_gain_below": 0}, "stop_when_gain_below: 0 is outside (0, 0.5]"),
        (
            {"stop_when_gain_below": 0.01, "evaluation_interval": None},
            "stop_when_gain_below: 0.01 has no effect with evaluation_interval null",
        ),
        (
            {"stop_when_gain_below": 0.01, "update_policy": False},
            "stop_when_gain_below: 0.01 has no effect with update_policy false",
        ),
        (
            {"num_env_runners": 9, "prompts_per_round": 8},
            "num_env_runners: 9 runners cannot share prompts_per_round 8",
        ),
    ],
)
def test_methods_that_do_not_go_together_are_refused_in_one_line(
    tiny_policy: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        SEAConfig.from_user_dict({"policy_model": str(tiny_policy), "query_budget": 8} | settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"exploration_strategy": "xpo", "optimism": "selm"},
        {"exploration_strategy": "apl", "prompt_acquisition": "certainty", "prompt_pool_size": 129},
        {"strategy_config": {"variance": "logit"}, "synthetic_pair": "best_vs_worst", "gamma": 0.7},
        {"update_policy": False, "evaluation_best_of_n": 2},
        {"gamma": 0.5, "synthetic_pair": "bounds", "synthetic_labels": "soft"},
        {"gamma": 0.5, "audit_threshold": 0.6, "audit_share": 0.05},
        {"gamma": 0.5, "audit_threshold": 0.6, "synthetic_pair": "selected_pair"},
        {"loss": "reinforce", "audit_threshold": 0.6},
        {"policy_sync_interval": None, "exploration_strategy": "passive"},
        {"ties": "rao_kupper", "tie_margin": 1},
        {"ties": "soft", "loss": "ipo"},
        {"erm_bootstrap": 1, "erm_prior_scale": 0, "measure_candidate_scores": True},
    ],
)
def test_methods_that_go_together_are_not_refused(
    tiny_policy: Path, settings: dict[str, object]
) -> None:
    SEAConfig.from_user_dict({"policy_model": str(tiny_policy), "query_budget": 8} | settings)


def test_what_runs_in_one_process_takes_the_cpus_of_what_it_does(tiny_policy: Path) -> None:
    """Else a search would start as many runs at once as fit no machine's memory."""
    in_process = {"num_env_runners": 0, "num_train_workers": 0}
    settings = {"policy_model": str(tiny_policy), "query_budget": 8}
    one = SEAConfig.from_user_dict(settings | {"num_env_runners": 1, "num_train_workers": 1})
    assert SEAConfig.from_user_dict(settings | in_process).total_cpus() == one.total_cpus() == 2.0
    no_updates = settings | in_process | {"update_policy": False}
    assert SEAConfig.from_user_dict(no_updates).total_cpus() == 1.0
