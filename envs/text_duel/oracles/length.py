"""A trivial oracle, for tests and first steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from text_duel.errors import ConfigError
from text_duel.oracles.base import ScoringOracle
from text_duel.prompts import Prompt


class LengthOracle(ScoringOracle):
    """Prefers responses with nearly a given number of words.

    ``score = -|words - target|``.

    Args:
        target: Words, at least 0.

    Raises:
        ConfigError: ``target`` is no whole number of at least 0.
    """

    def __init__(self, target: int = 12) -> None:
        if isinstance(target, bool) or not isinstance(target, int) or target < 0:
            raise ConfigError(
                f"oracle_config.target: {target!r} is not a whole number of at least 0"
            )
        self.target = target
        self.name = f"length(target={target})"

    @classmethod
    def check_config(cls, **config: Any) -> None:
        cls(**config)  # loads nothing

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        words = np.array([len(response.split()) for response in responses], dtype=np.float64)
        return -np.abs(words - self.target)
