"""An oracle that is away or silent for a while, and writes down whom it answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from text_duel import Oracle, Prompt


class AwayOracle(Oracle):
    """Prefers the text that comes first in the alphabet.

    Args:
        folder: ``answered`` there gets a line a question. While there is a file ``away``, no
            question is answered; it holds how many more calls are refused. A file ``silent``,
            which it removes, has it say nothing for as many seconds as it holds.
    """

    name = "away"

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        away = self._folder / "away"
        if away.exists():
            left = int(away.read_text()) - 1
            if left > 0:
                away.write_text(str(left))
            else:
                away.unlink()
            raise ConnectionError("nobody is there")
        silent = self._folder / "silent"
        if silent.exists():
            seconds = float(silent.read_text())
            silent.unlink()
            time.sleep(seconds)
        with (self._folder / "answered").open("a") as lines:
            for prompt, a, b in zip(prompts, first, second, strict=True):
                lines.write(f"{prompt.id} {a!r} {b!r}\n")
        return np.array([0.9 if a < b else 0.1 for a, b in zip(first, second, strict=True)])
