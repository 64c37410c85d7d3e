"""A random tiny model of each architecture that is promised to work, in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedConfig

from tests.helpers.tiny_models import make_tokenizer

_TOKENIZER = make_tokenizer()
_TOKENS = {
    "vocab_size": len(_TOKENIZER),
    "eos_token_id": _TOKENIZER.eos_token_id,
    "pad_token_id": _TOKENIZER.pad_token_id,
    "bos_token_id": None,
}
_SIZES = _TOKENS | {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
}
_LLAMA = _SIZES | {"intermediate_size": 128, "num_key_value_heads": 1}
_EXPERTS = _LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**_LLAMA, tie_word_embeddings=False),
    "llama_tied": lambda: transformers.LlamaConfig(**_LLAMA, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**_LLAMA, tie_word_embeddings=True),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **_EXPERTS, head_dim=32, moe_intermediate_size=48
    ),
    "olmoe": lambda: transformers.OlmoeConfig(**_EXPERTS),
    "mistral": lambda: transformers.MistralConfig(**_LLAMA, head_dim=32),
    "gemma": lambda: transformers.GemmaConfig(**_LLAMA, head_dim=32),
    "phi3": lambda: transformers.Phi3Config(**_LLAMA),
    "gpt2": lambda: transformers.GPT2Config(
        **_TOKENS, n_embd=64, n_layer=2, n_head=2, n_positions=256
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_SIZES, intermediate_size=128),
}


def make_family(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes a model of a family with weights that make its distributions lively.

    Args:
        name: Of :data:`CONFIGS`.
        folder: Where to.
        dtype: Of the file.
    """
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).to(torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    model.to(dtype).save_pretrained(folder)
    _TOKENIZER.save_pretrained(folder)
    return folder


def reshard(folder: Path) -> None:
    """Cuts a model's file into shards with an index, and leaves a file that is none of them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-{1 + i % 3:05}-of-00003.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: weights[name] for name in names if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    other = {f"consolidated.{name}": torch.randn_like(w) for name, w in weights.items()}
    save_file(other, folder / "consolidated.safetensors", metadata={"format": "pt"})


def as_older_versions_wrote(folder: Path, prefix: str) -> None:
    """Renames a model's tensors, and adds buffers that once were in the files.

    Args:
        folder: The model's.
        prefix: Is taken off the names.
    """
    weights = load_file(folder / "model.safetensors")
    older = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    for layer in range(2):
        for attention in (f"{prefix}layers.{layer}.attention", f"h.{layer}.attn"):
            older[f"{attention}.bias"] = torch.ones(1, 1, 4, 4).tril()
            older[f"{attention}.masked_bias"] = torch.tensor(-1e9)
            older[f"{attention}.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})
