"""Floating-point formats: which a process computes in, and which a model's weights have."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from torch import nn

AUTO = "auto"
# What an engine may have its weights in.
DTYPES = (AUTO, "float32", "bfloat16", "float16")
# What training computes in (`train_precision`), and an engine beside it unless it is told
# otherwise: one that rounds more coarsely does not sample the policy that is trained.
DTYPE_OF_PRECISION = {"bf16": "bfloat16", "fp32": "float32", AUTO: AUTO}


def auto_dtype() -> torch.dtype:
    """bfloat16 if this process' hardware multiplies in it, else float32.

    A CPU without AVX-512 emulates it: matrix products take six times as long as in float32.
    """
    if torch.cuda.is_available():
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # What torch itself asks before such a product; it has no public name.
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if supported else torch.float32


def resolve_dtype(name: str) -> torch.dtype:
    """The format of a name of :data:`DTYPES`."""
    dtype: torch.dtype = auto_dtype() if name == AUTO else getattr(torch, name)
    return dtype


def name_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Says in a saved model's configuration which format it is loaded in."""
    file = folder / transformers.utils.CONFIG_NAME
    config = json.loads(file.read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
    file.write_text(json.dumps(config, indent=2) + "\n")


def halve(model: transformers.PreTrainedModel) -> None:
    """Keeps in bf16 what autocast would cast to bf16 in every forward pass anyway."""
    embedding = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight is not embedding:
            module.to(torch.bfloat16)
