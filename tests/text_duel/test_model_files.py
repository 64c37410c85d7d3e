"""A model's files: its context, and what is wrong with its weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from tests.helpers.model_families import CONFIGS, make_family, reshard
from tests.helpers.tiny_models import make_tokenizer
from text_duel.encoders import windows
from text_duel.errors import ConfigError
from text_duel.model_files import (
    _POSITIONS_AFTER_PADDING,
    UNLIMITED,
    check_model_folder,
    context_length,
)


@pytest.mark.parametrize(
    ("config", "named_by_tokenizer", "expected"),
    [
        (CONFIGS["llama"](), None, 256),
        (CONFIGS["llama"](), 100, 256),
        (CONFIGS["gpt2"](), None, 256),
        (CONFIGS["mpt"](), None, 256),
        (CONFIGS["bloom"](), None, UNLIMITED),
        (CONFIGS["bloom"](), 100, 100),
        (transformers.BloomConfig(seq_length=64), None, 64),
        (CONFIGS["mamba"](), None, UNLIMITED),
        (transformers.XLNetConfig(), None, UNLIMITED),
        (transformers.Gemma3Config(text_config={"max_position_embeddings": 72}), None, 72),
        (transformers.CohereConfig(max_position_embeddings=64, model_max_length=512), None, 64),
        (transformers.RobertaConfig(max_position_embeddings=514), None, 512),
        (transformers.MPNetConfig(max_position_embeddings=514), None, 512),
        (transformers.BertConfig(max_position_embeddings=512), None, 512),
    ],
)
def test_the_context_of_a_model(
    config: transformers.PreTrainedConfig, named_by_tokenizer: int | None, expected: int
) -> None:
    tokenizer = make_tokenizer()
    if named_by_tokenizer is not None:
        tokenizer.model_max_length = named_by_tokenizer
    assert context_length(config, tokenizer) == expected


def counted_after_padding() -> set[str]:
    """The types of this version of Transformers that read texts and count so, by their sources."""
    sources = Path(transformers.__file__).parent / "models"
    files = sources.glob("*/modeling_*.py")
    names = {
        file.stem for file in files if "create_position_ids_from_input_ids" in file.read_text()
    }
    types = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    # ESM reads proteins, LayoutLM pages.
    return {
        name
        for name in types
        if f"modeling_{name.replace('-', '_')}" in names and not name.startswith(("esm", "layout"))
    }


def test_all_models_that_count_positions_after_padding_are_known() -> None:
    found = counted_after_padding()
    assert "roberta" in found
    # These have no head for sequences, or their source imports the function from another's.
    assert found <= _POSITIONS_AFTER_PADDING <= found | {"mpnet", "luke"}


@pytest.mark.parametrize("kind", sorted(_POSITIONS_AFTER_PADDING - {"luke"}))
def test_a_text_as_long_as_the_context_is_read_and_no_longer_one(kind: str) -> None:
    config = transformers.CONFIG_MAPPING[kind](
        vocab_size=30,
        hidden_size=24,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=20,
        attention_window=[4],
        pad_token_id=1,
        max_depth=5,
    )
    if kind == "xmod":
        config.languages, config.default_language = ["en_XX"], "en_XX"
    model = transformers.AutoModel.from_config(config).eval()
    context = context_length(config, SimpleNamespace(model_max_length=1000))
    assert context == 18
    with torch.no_grad():
        assert model(torch.full((1, context), 5)).last_hidden_state.shape[1] == context
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, context + 1), 5))


def test_windows_by_hand() -> None:
    """[1] and [2, 2] stand around a text; a window of 5 has room for two of its tokens."""
    bare = [7, 8, 9, 7, 8]
    whole = [1, *bare, 2, 2]
    assert windows(whole, bare, 8) == [whole]
    assert windows(whole, bare, 5) == [[1, 7, 8, 2, 2], [1, 9, 7, 2, 2], [1, 8, 2, 2]]
    assert windows(bare, bare, 2) == [[7, 8], [9, 7], [8]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_family("llama", tmp_path / "model")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def bare_adapter(folder: Path) -> None:
    adapter(folder)
    (folder / "config.json").unlink()


def quantized(method: str, *path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        config = part = json.loads(file.read_text())
        for key in path:
            part = part.setdefault(key, {})
        part["quantization_config"] = {"quant_method": method}
        file.write_text(json.dumps(config))

    return change


def nested(folder: Path) -> None:
    transformers.Gemma3Config().save_pretrained(folder)
    quantized("gptq", "text_config")(folder)


def pointer(folder: Path) -> None:
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n"
    (folder / "model.safetensors").write_bytes(text)


def cut_off(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-7])


def lose_a_shard(folder: Path) -> None:
    reshard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


def break_the_index(folder: Path) -> None:
    reshard(folder)
    (folder / "model.safetensors.index.json").write_text("[]")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (adapter, r"holds an adapter \(adapter_config\.json\), .*: merge it .*`merge_and_unload"),
        (bare_adapter, r"holds an adapter \(adapter_config\.json\), .*: merge it"),
        (quantized("awq"), r"is quantized \(awq in config\.json\), .*: take the model that it was"),
        (nested, r"is quantized \(gptq in config\.json\)"),
        (
            pointer,
            r"model\.safetensors is a pointer of Git LFS, .*: fetch them with `git lfs pull`",
        ),
        (
            cut_off,
            r"model\.safetensors has \d+ bytes, its header says \d+: it was not copied whole",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(b""),
            r"is no file of safetensors \(0 byt",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), r"is no file of safetensors"),
        (
            lose_a_shard,
            r"model-00002-of-00003\.safetensors is not there, though .*index\.json names",
        ),
        (break_the_index, r"index\.json is no index of safetensors"),
        (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
    ],
)
def test_what_is_wrong_with_a_folder(
    model: Path, change: Callable[[Path], None], expected: str
) -> None:
    check_model_folder(model, "key")
    change(model)
    with pytest.raises(ConfigError, match=rf"^key: .*{model}.*{expected}") as wrong:
        check_model_folder(model, "key")
    assert "\n" not in str(wrong.value)


def test_a_folder_in_shards_is_whole(model: Path, tmp_path: Path) -> None:
    reshard(shutil.copytree(model, tmp_path / "sharded"))
    check_model_folder(tmp_path / "sharded", "key")
