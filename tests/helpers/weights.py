"""Comparing a policy's weights after the same updates, computed in another order."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def assert_same_updates(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], atol: float = 1e-5
) -> None:
    """All entries but one in ten thousand are within ``atol``; NaN equals NaN.

    Adam divides a gradient by its size: where that size is rounding noise, the order of a sum (the
    CPU's instructions, the number of workers) decides about a step. Those entries are few; another
    gradient, learning rate or clipping moves nearly all.
    """
    assert weights.keys() == expected.keys()
    apart = sum(
        int((~torch.isclose(tensor, expected[name], rtol=0, atol=atol, equal_nan=True)).sum())
        for name, tensor in weights.items()
    )
    total = sum(tensor.numel() for tensor in expected.values())
    assert apart <= 1e-4 * total, f"{apart} of {total} entries are more than {atol} apart"
