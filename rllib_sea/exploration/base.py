"""What every exploration strategy takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Selection:
    """Two candidates of each prompt.

    Attributes:
        first: (B,) index of the first response.
        second: (B,) index of the second response; its text differs from the first's.
        member: (B,) ensemble member drawn for the first response, -1 where the
            strategy draws none.
        valid: (B,) False where all M candidates are one text: there is no duel, and
            the other fields of that row mean nothing.
    """

    first: np.ndarray
    second: np.ndarray
    member: np.ndarray
    valid: np.ndarray


class Strategy(Protocol):
    """An exploration strategy: a pure function of rewards, texts and generators."""

    def __call__(
        self,
        rewards: torch.Tensor,
        texts: torch.Tensor,
        rngs: Sequence[np.random.Generator],
    ) -> Selection:
        """Selects a duel for each prompt.

        Args:
            rewards: (K, B, M) reward of each candidate by each ensemble member.
            texts: (B, M) integer identity of each candidate's text: equal numbers
                in a row are equal texts (see :func:`text_identities`).
            rngs: B generators, one a prompt.
        """
        ...


def text_identities(texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """Numbers the texts of each prompt: equal texts get equal numbers.

    Args:
        texts: B lists of M candidate texts.

    Returns:
        (B, M) int64; a text's number is the index of its first occurrence.
    """
    rows = []
    for row in texts:
        seen: dict[str, int] = {}
        rows.append([seen.setdefault(text, i) for i, text in enumerate(row)])
    return torch.tensor(rows, dtype=torch.int64)


def has_two_texts(texts: torch.Tensor) -> torch.Tensor:
    """(B,) bool: whether a prompt has at least two different candidates."""
    return (texts != texts[:, :1]).any(dim=1)


def argmax_of_other_text(
    values: torch.Tensor, texts: torch.Tensor, first: torch.Tensor
) -> torch.Tensor:
    """The best candidate whose text is not that of ``first``.

    Args:
        values: (B, M) what to maximise.
        texts: (B, M) text identities.
        first: (B,) index of the response that is taken.

    Returns:
        (B,) indices. Rows with one text only give an arbitrary index.
    """
    same = texts == texts.gather(1, first[:, None])
    return values.masked_fill(same, -torch.inf).argmax(dim=1)


def draw_members(num_members: int, rngs: Sequence[np.random.Generator]) -> torch.Tensor:
    """(B,) one ensemble member a prompt, uniformly (Algorithm 2, line 4)."""
    return torch.tensor([int(rng.integers(num_members)) for rng in rngs], dtype=torch.int64)


def member_argmax(rewards: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """(B,) the candidate that each prompt's drawn member likes best.

    Args:
        rewards: (K, B, M).
        member: (B,).
    """
    rows = torch.arange(rewards.shape[1])
    return rewards[member, rows].argmax(dim=1)
