"""An oracle that writes down how many questions it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from text_duel import Oracle, Prompt


class CountingOracle(Oracle):
    """Prefers the text that comes first in the alphabet.

    Args:
        file: Gets one line a call: the number of its questions.
    """

    name = "counting"

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        with self._file.open("a") as lines:
            lines.write(f"{len(prompts)}\n")
        return np.array([0.9 if a < b else 0.1 for a, b in zip(first, second, strict=True)])
