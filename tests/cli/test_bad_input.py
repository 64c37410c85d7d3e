"""What the user got wrong: one clear line on stderr, exit status 2, and no Ray started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

BASE: dict[str, Any] = {
    "env": "text_duel/TLDR-v0",
    "run": "SEA",
    "config": {"query_budget": 32, "prompts_per_round": 16, "sampler": "transformers"},
}


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("ray.init", started)


def in_config(**config: Any) -> dict[str, Any]:
    return {**BASE, "config": {**BASE["config"], **config}}


def in_env(**env_config: Any) -> dict[str, Any]:
    return in_config(env_config=env_config)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # Unknown keys, everywhere, with the nearest valid one.
        (BASE | {"num_sample": 2}, "unknown key 'num_sample' (did you mean 'num_samples'?)"),
        (BASE | {"checkpoint_freq": 2}, "'checkpoint_freq' (did you mean 'checkpoint_config'?)"),
        (in_config(gama=0.5), "unknown config key 'gama' (did you mean 'gamma'?)"),
        (in_env(oracl="length"), "'oracl' (did you mean 'oracle'?)"),
        (
            BASE | {"checkpoint_config": {"num_to_kep": 1}},
            "'num_to_kep' (did you mean 'num_to_keep'?)",
        ),
        (BASE | {"stop": {"num_oracle_query": 9}}, "(did you mean 'num_oracle_queries'?)"),
        (
            BASE | {"checkpoint_config": {"checkpoint_score_attribute": "evaluation/win_rate"}},
            "checkpoint_score_attribute: results have no key 'evaluation/win_rate'",
        ),
        (BASE | {"scheduler": "hyperbnd"}, "(did you mean 'hyperband'?)"),
        (
            BASE | {"scheduler": "async_hyperband", "scheduler_config": {"metrc": "round"}},
            "(did you mean 'metric'?)",
        ),
        (
            BASE
            | {
                "scheduler": "async_hyperband",
                "scheduler_config": {"metric": "rounds", "mode": "max"},
            },
            "scheduler_config: metric: results have no key 'rounds' (did you mean 'round'?)",
        ),
        (in_config(lr=1e-6), "set policy_lr or erm_lr"),
        (in_config(gamma={"grid_serch": [0, 1]}), "(did you mean 'grid_search'?)"),
        # Wrong types.
        (in_config(prompts_per_round="many"), "prompts_per_round: 'many'"),
        (in_config(query_budget=1.5), "query_budget: 1.5 is not a whole number"),
        (in_config(measure_online_win_rate=1), "measure_online_win_rate: 1"),
        (BASE | {"config": [1]}, "config: [1] is not a mapping"),
        (BASE | {"stop": {"round": "ten"}}, "stop: round: 'ten' is not a number"),
        (BASE | {"checkpoint_config": {"checkpoint_frequency": -1}}, "checkpoint_frequency: -1"),
        (BASE | {"checkpoint_config": {"num_to_keep": 0}}, "num_to_keep: 0 is less than 1"),
        (BASE | {"checkpoint_config": {"checkpoint_score_order": "up"}}, "checkpoint_score_order"),
        (BASE | {"scheduler_config": [1]}, "scheduler_config: [1] is not a mapping"),
        (
            BASE | {"scheduler": "async_hyperband"},
            "scheduler_config: needs a metric and a mode",
        ),
        (BASE | {"checkpoint_config": {"checkpoint_at_end": "yes"}}, "checkpoint_at_end: 'yes'"),
        ([1, 2], "exp: [1, 2] is not a mapping"),
        # Values out of range.
        (in_config(gamma=1.5), "gamma: 1.5 is outside [0, 1]"),
        (in_config(gamma=-0.1), "gamma: -0.1 is outside [0, 1]"),
        (in_config(gamma=[[0, 1.0], [64, 2.0]]), "gamma: 2.0 is outside [0, 1]"),
        (in_config(num_candidates=1), "num_candidates: 1 is less than 2"),
        (in_config(ensemble_size=0), "ensemble_size: 0 is less than 1"),
        (in_config(query_budget=0), "query_budget: 0 is less than 1"),
        (BASE | {"num_samples": 0}, "num_samples: 0 is less than 1"),
        # A search: every variant is checked.
        (in_config(gamma={"grid_search": [0.5, 1.5]}), "gamma: 1.5 is outside [0, 1]"),
        (in_config(beta={"loguniform": [0, 1]}), "config.beta: loguniform needs"),
        (in_config(beta={"eval": "1"}), "eval"),
        # Things that are not there.
        (in_config(policy_model="./no/model"), "no/model"),
        (in_env(prompts="./no/posts.jsonl"), "no/posts.jsonl"),
        (in_env(columns={"post": "body"}), "'body'"),
        (BASE | {"run": "SEE"}, "run: 'SEE' is neither SEA nor known to RLlib"),
        (BASE | {"restore": "no/checkpoint"}, "restore: there is no checkpoint folder"),
        (
            BASE | {"restore": str(Path(__file__).parent)},
            f"restore: {Path(__file__).parent} is no ",
        ),
        (BASE | {"storage_path": __file__}, f"storage_path: {__file__}: {__file__} is a file"),
        (
            BASE | {"storage_path": f"{__file__}/below/it"},
            f"storage_path: {__file__}/below/it: {__file__} is a file, no folder",
        ),
        (
            BASE | {"storage_path": "/proc/results"},
            "storage_path: /proc/results: nothing can be written to /proc: ",
        ),
        (
            BASE | {"storage_path": "~nobody-here/results"},
            "storage_path: '~nobody-here/results': there is no user 'nobody-here'",
        ),
        (
            BASE | {"storage_path": "results/~/mine"},
            "storage_path: 'results/~/mine': ~ is the home folder only where it begins",
        ),
        (
            BASE | {"restore": "~nobody-here/checkpoint"},
            "restore: '~nobody-here/checkpoint': there is no user 'nobody-here'",
        ),
        (
            in_config(policy_model="~nobody-here/m"),
            "model: '~nobody-here/m': there is no user 'nobody-here'",
        ),
        (
            in_config(initial_preferences="~nobody-here/log"),
            "initial_preferences: '~nobody-here/log': there is no user 'nobody-here'",
        ),
        (
            in_env(prompts="~nobody-here/p.jsonl"),
            "prompts: '~nobody-here/p.jsonl': there is no user 'nobody-here'",
        ),
        (
            in_env(template="~nobody-here/t.txt"),
            "template: '~nobody-here/t.txt': there is no user 'nobody-here'",
        ),
        (
            in_env(oracle="reward_model", oracle_config={"model": "~nobody-here/m"}),
            "oracle_config: model: '~nobody-here/m': there is no user 'nobody-here'",
        ),
        (
            BASE | {"extends": "~nobody-here/a.yaml"},
            "extends: file: '~nobody-here/a.yaml': there is no user 'nobody-here'",
        ),
        (BASE | {"loggers": {"mlfow": {}}}, "loggers: unknown logger 'mlfow' (did you mean "),
        ({"config": {}}, "key 'run' is missing"),
        (in_config(env="other"), "env: 'text_duel/TLDR-v0' here, 'other' in config"),
    ],
)
def test_a_wrong_experiment_is_one_line(
    rllib: Any, tmp_path: Path, spec: Any, expected: str
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({"exp": spec}))
    outcome = rllib("train", "file", file)
    assert outcome.status == 2
    assert outcome.err.startswith("rllib: exp: ")
    assert expected in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exp: {run: SEA", "not valid YAML"),
        ("exp: {run: SEA}\nexp: {run: SEA}\n", "experiment.yaml:1: not valid YAML: key 'exp'"),
        ("exp:\n  run: SEA\n  config: {gamma: 1, gamma: 0}\n", "experiment.yaml:3"),
        ("", "expected experiments"),
        ("- run: SEA\n", "expected experiments"),
        ("a/b: {run: SEA}", "'a/b' is no name of a folder"),
        ("exp: {run: SEA, config: !!python/object:os.system {}}", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_one_line(rllib: Any, tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    outcome = rllib("train", "file", file)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert expected in outcome.err


def test_an_empty_prompt_list(rllib: Any, tmp_path: Path) -> None:
    (tmp_path / "posts.jsonl").write_text("")
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({"exp": in_env(prompts=str(tmp_path / "posts.jsonl"))}))
    outcome = rllib("train", "file", file)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "has no rows" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "say what to train"),
        (["train", "file", "no/such.yaml"], "cannot read no/such.yaml"),
        (["train", "--num-samples", "2", "file", "x.yaml"], "stand after it"),
        (["train", "--run", "SEA", "--config", "gamma"], "--config: 'gamma' is no mapping"),
        (["train", "--run", "SEA", "--stop", "{"], "--stop"),
        (["train", "--run", "Toy", "--ray-num-cpus", "0"], "--ray-num-cpus: 0 is less than 1"),
        (
            ["train", "--run", "Toy", "--ray-num-cpus", "1", "--ray-address", "host:1"],
            "--ray-num-cpus: the cluster at host:1 has its own",
        ),
        (["evaluate", "no/checkpoint"], "there is no checkpoint folder"),
        (["evaluate", "."], "is no checkpoint"),
        (["example", "get", "sea_tdlr"], "(did you mean 'sea_tldr'?)"),
        (["example", "run", "nothing"], "no recipe 'nothing'"),
    ],
)
def test_a_wrong_option_is_one_line(
    rllib: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = rllib(*arguments)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert expected in outcome.err


def test_resume_needs_an_earlier_run(rllib: Any, tmp_path: Path) -> None:
    outcome = rllib("train", "--run", "Toy", "--resume", "--storage-path", tmp_path)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert f"--resume: no earlier run in {tmp_path}/Toy" in outcome.err


def test_an_experiment_name_for_two_experiments(rllib: Any, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(json.dumps({"a": {"run": "Toy"}, "b": {"run": "Toy"}}))
    outcome = rllib("train", "file", file, "--experiment-name", "c")
    assert outcome.status == 2
    assert "has 2 experiments" in outcome.err
