"""Which floating-point format a process computes in if the user leaves that open."""

from __future__ import annotations

import torch

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
