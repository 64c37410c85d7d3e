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
from transformers import AutoTokenizer, BertConfig, T5Config, ViTConfig, XLNetConfig

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


def test_what_is_no_causal_model_is_refused(model: Path) -> None:
    for config, expected in (
        (T5Config(), r"is an encoder with a decoder \(model_type 't5' in config.json\), expected"),
        (BertConfig(), r"is an encoder \(model_type 'bert' in config.json, not is_decoder\)"),
        (XLNetConfig(), r"is an encoder \(model_type 'xlnet' in config.json, not is_decoder\)"),
        (ViTConfig(), r"has no causal language model of .* \(model_type 'vit' in config.json\)"),
    ):
        config.save_pretrained(model)
        with pytest.raises(ConfigError, match=expected) as wrong:
            check_policy_folder(model)
        assert "\n" not in str(wrong.value)
    BertConfig(is_decoder=True, eos_token_id=256).save_pretrained(model)
    with pytest.raises(ConfigError, match=r"lack .*, which BertLMHeadModel has"):
        check_policy_folder(model)


def test_a_token_without_a_row_is_refused(model: Path) -> None:
    """Such as one that was added for a chat template, to a model that was not resized."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert len(tokenizer) == 261
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    tokenizer.save_pretrained(model)
    expected = r"has the token '<\|tool\|>' of number 261, the model's embedding 261 rows: add rows"
    with pytest.raises(ConfigError, match=expected):
        check_policy_folder(model)


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
