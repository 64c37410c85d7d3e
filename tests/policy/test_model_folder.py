"""A policy's folder: what it lacks is named before a run, what cannot be written again, too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config

from rllib_sea.policy.model_folder import (
    check_policy_folder,
    load_policy,
    names_on_disk,
    replace_weights,
    save_policy,
    weights_of,
)
from tests.helpers.model_families import make_family
from text_duel.errors import ConfigError


@pytest.fixture
def model(tiny_policy: Path, tmp_path: Path) -> Path:
    """A model's folder, to be changed."""
    return shutil.copytree(tiny_policy, tmp_path / "model")


def change(file: Path, entries: dict[str, Any]) -> None:
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(known | entries))


def lose(weights: dict[str, torch.Tensor]) -> None:
    del weights["model.norm.weight"]


def cut(weights: dict[str, torch.Tensor]) -> None:
    weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lose, r"lack 'model\.norm\.weight', which LlamaForCausalLM has"),
        (cut, r"cannot be loaded as a causal language model: .*"),
        (dict.clear, r"lack '.* and 20 others"),
    ],
)
def test_weights_that_are_not_there_are_named(
    model: Path, changed: Callable[[dict[str, torch.Tensor]], None], expected: str
) -> None:
    weights = load_file(model / "model.safetensors")
    changed(weights)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for load in (check_policy_folder, lambda folder: load_policy(folder, torch.float32)):
        with pytest.raises(ConfigError, match=expected) as wrong:
            load(model)
        assert str(wrong.value).startswith("policy_model: ")
        assert str(model) in str(wrong.value)
        assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_holds_no_weights_is_refused(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be loaded as a causal language model") as wrong:
        check_policy_folder(model)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("generation_config.json", {"top_p": 0.9}),
        ("generation_config.json", {"temperature": 0.0}),
        ("generation_config.json", {"pad_token_id": -1}),
        ("config.json", {"temperature": 0.7}),
        ("config.json", {"pad_token_id": -1}),
    ],
)
def test_settings_that_transformers_does_not_write_do_not_lose_a_run(
    model: Path, tmp_path: Path, name: str, entries: dict[str, Any]
) -> None:
    if name == "config.json":
        (model / "generation_config.json").unlink()
    change(model / name, entries)
    check_policy_folder(model)
    policy = load_policy(model, torch.float32)
    save_policy(policy, weights_of(policy), tmp_path / "saved", model)
    if name == "generation_config.json":
        assert (tmp_path / "saved" / name).read_bytes() == (model / name).read_bytes()
    again = load_policy(tmp_path / "saved", torch.float32)
    assert again.generation_config.eos_token_id == policy.generation_config.eos_token_id
    for tensor, other in zip(again.parameters(), policy.parameters(), strict=True):
        assert torch.equal(tensor, other)


def test_settings_that_cannot_be_read_are_refused(model: Path) -> None:
    change(model / "generation_config.json", {"num_return_sequences": 3})
    with pytest.raises(ConfigError, match="num_return_sequences") as wrong:
        check_policy_folder(model)
    assert "\n" not in str(wrong.value)


def test_logits_that_are_capped_are_refused_before_anything_starts(model: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 261}
    for config, expected in (
        (Gemma2Config(**sizes, **heads), "final_logit_softcapping 30.0 in config.json"),
        (CohereConfig(**sizes, **heads), "logit_scale 0.0625 in config.json"),
    ):
        AutoModelForCausalLM.from_config(config).save_pretrained(model)
        with pytest.raises(ConfigError, match=expected) as wrong:
            check_policy_folder(model)
        assert "\n" not in str(wrong.value)


def test_what_cannot_be_written_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ValueError("no\nway")

    monkeypatch.setattr("rllib_sea.policy.model_folder._write_beside_weights", refuse)
    with pytest.raises(ConfigError, match=r"cannot write it again, as a checkpoint would: no way$"):
        check_policy_folder(model)


def test_names_on_disk_are_those_of_the_family(tmp_path: Path) -> None:
    for family, here, there in (
        ("gpt_neox", "lm_head.weight", "embed_out.weight"),
        (
            "olmoe",
            "model.layers.0.mlp.experts.down_proj",
            "model.layers.0.mlp.experts.3.down_proj.weight",
        ),
    ):
        folder = make_family(family, tmp_path / family)
        written = load_file(folder / "model.safetensors")
        policy = load_policy(folder, torch.float32)
        weights = weights_of(policy)
        assert here in weights
        found = names_on_disk(policy.to("meta"), weights)
        assert there in found
        assert found.keys() == written.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in written.items())


def test_another_models_weights_are_refused(model: Path) -> None:
    policy = load_policy(model, torch.float32)
    weights = {name: tensor.clone() for name, tensor in weights_of(policy).items()}
    assert "lm_head.weight" not in weights
    with pytest.raises(ValueError, match=r"unexpected \['other'\]"):
        replace_weights(policy, weights | {"other": torch.zeros(1)})
    del weights["model.norm.weight"]
    with pytest.raises(ValueError, match=r"missing \['model.norm.weight'\]"):
        replace_weights(policy, weights)
