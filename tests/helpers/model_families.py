"""A random tiny model of each architecture that has been tried (docs/models.md), in its folder."""

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
    # As many models have more rows than tokens; and to some families' tokenizers Transformers adds
    # a token.
    "vocab_size": -(-len(_TOKENIZER) // 8) * 8,
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
_LOCAL_EXPERTS = _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2}
_GPT2 = _TOKENS | {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256}
_MAMBA = _TOKENS | {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
_LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_HYBRID = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
_LATENT = {
    "num_key_value_heads": 2,
    "kv_lora_rank": 512,  # with the next one, the only size that vLLM has a kernel for
    "q_lora_rank": 16,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 16,
    "v_head_dim": 32,
}

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
    "gpt2": lambda: transformers.GPT2Config(**_GPT2),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_SIZES, intermediate_size=128),
    "qwen3": lambda: transformers.Qwen3Config(**_LLAMA, head_dim=32),
    "gemma2": lambda: transformers.Gemma2Config(**_LLAMA, head_dim=32),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_LLAMA, head_dim=32),
    "phi": lambda: transformers.PhiConfig(**_SIZES, intermediate_size=128),
    "smollm3": lambda: transformers.SmolLM3Config(**_LLAMA),
    "olmo2": lambda: transformers.Olmo2Config(**_LLAMA),
    "granite": lambda: transformers.GraniteConfig(**_LLAMA, logits_scaling=0.1),
    "cohere": lambda: transformers.CohereConfig(**_LLAMA, logit_scale=0.25),
    "cohere2": lambda: transformers.Cohere2Config(**_LLAMA, logit_scale=0.25),
    "stablelm": lambda: transformers.StableLmConfig(**_LLAMA),
    "starcoder2": lambda: transformers.Starcoder2Config(**_LLAMA),
    "glm4": lambda: transformers.Glm4Config(**_LLAMA, head_dim=32),
    "exaone4": lambda: transformers.Exaone4Config(**_LLAMA),
    "llama4": lambda: transformers.Llama4TextConfig(
        **_LLAMA, head_dim=32, num_local_experts=2, intermediate_size_mlp=128
    ),
    "mixtral": lambda: transformers.MixtralConfig(**_LOCAL_EXPERTS),
    "gpt_oss": lambda: transformers.GptOssConfig(**_LOCAL_EXPERTS, head_dim=32),
    "deepseek_v3": lambda: transformers.DeepseekV3Config(
        **(_LLAMA | _LATENT),
        topk_method="noaux_tc",
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=48,
        first_k_dense_replace=1,
    ),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        **_TOKENS,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        max_position_embeddings=256,
        attention_types=[[["global", "local"], 1]],
    ),
    "gptj": lambda: transformers.GPTJConfig(**_GPT2, rotary_dim=16),
    "gpt_bigcode": lambda: transformers.GPTBigCodeConfig(**_GPT2),
    "opt": lambda: transformers.OPTConfig(**_SIZES, ffn_dim=128, word_embed_proj_dim=64),
    "bloom": lambda: transformers.BloomConfig(**_TOKENS, hidden_size=64, n_layer=2, n_head=2),
    "mpt": lambda: transformers.MptConfig(
        **_TOKENS, d_model=64, n_heads=2, n_layers=2, max_seq_len=256, expansion_ratio=2
    ),
    "falcon": lambda: transformers.FalconConfig(**_SIZES, alibi=False),
    "falcon_alibi": lambda: transformers.FalconConfig(**_SIZES, alibi=True),
    "mamba": lambda: transformers.MambaConfig(**_MAMBA),
    "mamba2": lambda: transformers.Mamba2Config(
        **_MAMBA, num_heads=4, head_dim=32, n_groups=1, chunk_size=16
    ),
    "falcon_h1": lambda: transformers.FalconH1Config(**_LLAMA, **_HYBRID, mamba_n_groups=1),
    "qwen3_next": lambda: transformers.Qwen3NextConfig(
        **_EXPERTS,
        **_LINEAR,
        head_dim=32,
        moe_intermediate_size=48,
        shared_expert_intermediate_size=48,
    ),
    "lfm2": lambda: transformers.Lfm2Config(
        **_LLAMA, layer_types=["conv", "full_attention"], block_dim=64, conv_dim=64, conv_bias=False
    ),
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
