"""An oracle with some questions that it skips, and some at which it always fails."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from text_duel import LengthOracle, Prompt


def oddness(prompt: Prompt | str) -> str:
    """What it does about a prompt: ``skips``, ``fails`` or ``answers``."""
    key = prompt if isinstance(prompt, str) else prompt.id
    return {0: "skips", 1: "fails"}.get(zlib.crc32(key.encode()) % 6, "answers")


class OddOracle(LengthOracle):
    """Likes responses of nearly three words.

    Args:
        fails_once: Whether the first call raises, too.
    """

    def __init__(self, fails_once: bool = True) -> None:
        super().__init__(target=3)
        self.name = "odd"
        self._sound = not fails_once

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        if not self._sound:
            self._sound = True
            raise KeyError("choices")
        if any(oddness(prompt) == "fails" for prompt in prompts):
            raise ValueError("I cannot read that")
        skips = np.array([oddness(prompt) == "skips" for prompt in prompts], dtype=bool)
        return np.where(skips, np.nan, super().score(prompts, responses))
