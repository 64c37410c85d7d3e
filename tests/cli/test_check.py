"""`rllib-sea check`: what a recipe will do, by the checks that `rllib train file` makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.tune.error import TuneError
from ray.tune.registry import TRAINABLE_CLASS, _global_registry, get_trainable_cls

from rllib_sea import SEAConfig
from rllib_sea.cli.check import RunPlan
from rllib_sea.cli.rllib_sea import main

Run = Callable[..., tuple[int, str, str]]
GIB = 2**30


@pytest.fixture
def check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs the command on one experiment, where neither Ray nor an engine may start."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was started")

    for name in ("ray.init", "rllib_sea.policy.sampler.make_sampler"):
        monkeypatch.setattr(name, refuse)

    def run(**spec: Any) -> tuple[int, str, str]:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({"mine": {"run": "SEA", **spec}}))
        monkeypatch.setattr("sys.argv", ["rllib-sea", "check", str(file)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def config(tiny_policy: Path, tmp_path: Path) -> dict[str, Any]:
    """Three prompts, of which one does not fit, and two held-out ones; one token is one byte."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    texts = {"train": ["a" * 10, "b" * 30, "c" * 2000], "test": ["d" * 7, "e" * 9]}
    for split, posts in texts.items():
        rows = [{"id": f"{split}-{i}", "post": post} for i, post in enumerate(posts)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "policy_model": str(tiny_policy),
        "chat_template": False,
        "sampler": "transformers",
        "env_config": {
            "prompts": str(folder),
            "template": "{post}",
            "columns": {"reference": None},
            "oracle": "length",
            "oracle_config": {"target": 3},
        },
        "evaluation_split": "test",
        "max_new_tokens": 8,
        "prompts_per_round": 2,
        "num_candidates": 4,
        "query_budget": 6,
        "ensemble_size": 3,
        "measure_online_win_rate": False,
    }


def rows_of(out: str) -> dict[str, str]:
    return {line[2:22].strip(): line[23:] for line in out.splitlines() if line.startswith("  ")}


def test_sea_is_known_after_a_session_of_ray_ended(check: Run, config: dict[str, Any]) -> None:
    _global_registry.unregister(TRAINABLE_CLASS, "SEA")
    with pytest.raises(TuneError):
        get_trainable_cls("SEA")
    status, _, err = check(config=config)
    assert (status, err) == (0, "")


def test_it_says_what_a_run_will_do(check: Run, config: dict[str, Any], tmp_path: Path) -> None:
    status, out, err = check(config=config, storage_path=str(tmp_path / "results"))
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "mine: SEA"
    rows = rows_of(out)
    assert rows["prompts"] == f"2 of {config['env_config']['prompts']}"
    assert rows["to be noted"].startswith(
        "1 training prompts do not leave 8 tokens (max_new_tokens) of room for a response"
    )
    assert rows["prompt tokens"] == "median 20, longest 30, without the chat template"
    assert rows["held-out prompts"] == "2, tokens median 8, longest 9"
    assert rows["rounds"] == "4 expected, for 6 labels of the oracle; 4 policy steps"
    assert rows["method"].startswith("bai_ts over 4 candidates of 8 tokens for 2 prompts per round")
    assert rows["method"].endswith("gamma [[0, 1.0], [3, 1.0], [4, 0.5]]; dpo (beta 0.1, lr 5e-07)")
    assert rows["oracle"] == "length {'target': 3}"
    assert rows["policy"].startswith(f"{config['policy_model']}, 0.")
    assert "GiB of all processes: weights 0.0, gradients 0.0" in rows["memory, estimated"]
    assert rows["results"] == f"{tmp_path}/results/mine"
    assert not (tmp_path / "results").exists(), "nothing is written"


def test_of_a_search_each_variant_says_what_is_different(
    check: Run, config: dict[str, Any]
) -> None:
    config["ensemble_size"] = {"grid_search": [3, 5]}
    status, out, err = check(config=config)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "mine: SEA, 2 variants checked"
    before, after = out.split(" with ensemble_size=5\n")
    assert " with ensemble_size=3\n" in before
    assert list(rows_of(after)) == ["reward model", "results"]
    assert rows_of(after)["reward model"].startswith("5 members")


@pytest.mark.parametrize(
    ("spec", "changes", "expected"),
    [
        ({"num_sample": 2}, {}, "mine: unknown key 'num_sample' (did you mean 'num_samples'?)"),
        ({}, {"gama": 1.0}, "mine: unknown config key 'gama'"),
        ({}, {"beta": {"grid_search": [0.1, -1]}}, "mine: beta: -1 is outside (0, inf)"),
        ({}, {"policy_model": "./none"}, "mine: model: './none' was not found"),
        ({}, {"max_new_tokens": 1020}, "env_config: no training prompt fits: "),
        ({"storage_path": f"{__file__}/x"}, {}, "mine: storage_path: "),
        ({"stop": {"round": "ten"}}, {}, "mine: stop: round: 'ten' is not a number"),
    ],
)
def test_a_refusal_is_one_line(
    check: Run, config: dict[str, Any], spec: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    status, out, err = check(config=config | changes, **spec)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("rllib-sea: ")
    assert expected in err


def test_memory_by_hand(config: dict[str, Any]) -> None:
    """A gibi of parameters: 4 bytes each for weights, gradients, reference and engine, 8 for Adam;
    ZeRO shares out what its stage says."""

    def memory(**changes: Any) -> dict[str, float]:
        plan = RunPlan(SEAConfig.from_user_dict(config | {"train_precision": "fp32"} | changes), {})
        plan.__dict__["num_parameters"] = GIB
        return plan.memory

    alone = memory()
    kv_cache = alone.pop("KV cache")
    assert alone == {
        **{"weights": 4.0, "gradients": 4.0, "optimizer": 8.0, "reference": 4.0, "engines": 4.0}
    }
    # Keys and values of 8 sequences, each as long as the longest prompt and a response, or the
    # audit's probe.
    plan = RunPlan(SEAConfig.from_user_dict(config), {})
    model = plan.model_config
    width = model.hidden_size // model.num_attention_heads
    per_token = 2 * model.num_hidden_layers * model.num_key_value_heads * width * 4
    assert kv_cache == pytest.approx(8 * plan.prompts.max_model_len * per_token / GIB)
    two = memory(num_train_workers=2)
    assert (two["weights"], two["optimizer"], two["reference"]) == (8.0, 16.0, 8.0)
    fixed = memory(update_policy=False)
    assert list(fixed) == ["engines", "KV cache"]


def test_loggers_are_checked_and_named(check: Run, config: dict[str, Any]) -> None:
    status, out, err = check(config=config, loggers={"wandb": {"mode": "disabled"}})
    assert (status, err) == (0, "")
    assert "  loggers              wandb\n" in out
    status, _, err = check(config=config, loggers={"wandb": {"mod": "disabled"}})
    assert status == 1
    assert err.startswith("rllib-sea: mine: loggers: wandb: unknown key 'mod' (did you mean 'mode'")


def test_held_out_prompts_may_be_another_file(
    check: Run, config: dict[str, Any], tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps({"post": post}) for post in ("f" * 5, "a" * 10)))
    env_config = config["env_config"] | {"evaluation_prompts": str(other)}
    changed = config | {"env_config": env_config, "evaluation_split": None}
    status, out, err = check(config=changed)
    assert (status, err) == (0, "")
    assert "1 of the 3 training prompts" in out
    assert "  held-out prompts     2, tokens " in out
