"""Oracles such as users write, good and broken; tests name them ``own_oracles:Class``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from text_duel import ConfigError, Oracle, Prompt, ScoringOracle


class Alphabetical(Oracle):
    """Prefers what comes first in the alphabet; has no scores."""

    name = "alphabetical"

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        order = [(a < b) - (a > b) for a, b in zip(first, second, strict=True)]
        return 0.5 + 0.3 * np.array(order, dtype=np.float64)


class Constant(Oracle):
    """Says the same about everything."""

    def __init__(self, p: Any) -> None:
        self.p = p
        self.name = f"constant({p})"

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        return np.full(len(prompts), self.p)


class Unreliable(ScoringOracle):
    """Counts characters; can be switched off, and counts how often it is called."""

    name = "unreliable"

    def __init__(self) -> None:
        self.works = True
        self.calls = 0

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        self.calls += 1
        if not self.works:
            raise TimeoutError("no answer\nafter 3 tries")
        return np.array([float(len(response)) for response in responses])


class HalfFailing(Alphabetical):
    """Compares, but its scores are not numbers."""

    name = "half-failing"
    has_scores = True

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        return np.full(len(responses), np.nan)


class WithOptions(Alphabetical):
    """Takes any option, and checks one of them."""

    def __init__(self, level: int, **options: Any) -> None:
        self.level = level

    @classmethod
    def check_config(cls, **config: Any) -> None:
        if config["level"] < 0:
            raise ConfigError(f"oracle_config.level: {config['level']} is below 0")


class NoOracle:
    """No subclass of Oracle."""
