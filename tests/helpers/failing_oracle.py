"""An oracle that answers some questions and then no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from text_duel import Oracle, Prompt


class FailingOracle(Oracle):
    """Answers until it has answered a number of questions.

    Args:
        answers: That number.
    """

    name = "failing"

    def __init__(self, answers: int) -> None:
        self._left = answers

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        if self._left < len(prompts):
            raise ConnectionError("the labeller has gone home")
        self._left -= len(prompts)
        return np.array([0.9 if a < b else 0.1 for a, b in zip(first, second, strict=True)])
