"""A simulated labeller of summaries that needs no model hub."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from text_duel.encoders import MiniLMEncoder
from text_duel.errors import OracleError
from text_duel.oracles.base import ScoringOracle
from text_duel.prompts import Prompt

REFERENCE_WEIGHT = 6.0
POST_WEIGHT = 2.0
BRIEF_WORDS, LONG_WORDS = 20, 40
EMPTY_SCORE = -4.0


def brevity(response: str) -> float:
    """1 for up to 20 words, falling linearly to 0 at 40 words and beyond."""
    words = len(response.split())
    return float(np.clip((LONG_WORDS - words) / (LONG_WORDS - BRIEF_WORDS), 0.0, 1.0))


def completeness(response: str) -> float:
    """1 where the response ends a sentence, else 0."""
    return float(response.rstrip().rstrip("\"'”’)").endswith((".", "!", "?")))


class EmbeddingOracle(ScoringOracle):
    """Likes summaries that mean what the reference summary and the post mean.

    With cosines of all-MiniLM-L6-v2 embeddings::

        score = 6 cos(response, reference) + 2 cos(response, post)
              + brevity(response) + completeness(response)

    An empty response scores -4, below any other. Texts of any length are read whole. Prompts need a reference and the field ``post``.
    """

    name = "embedding(all-MiniLM-L6-v2, reference=6, post=2, brevity=20-40 words, version=1)"

    def __init__(self) -> None:
        self._encoder = MiniLMEncoder()
        self._known: dict[str, np.ndarray] = {}

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        if not prompts:
            return np.empty(0)
        for prompt in prompts:
            if prompt.reference is None or "post" not in prompt.fields:
                raise OracleError(f"prompt {prompt.id!r} has no reference or no post")
        references = self._embed([prompt.reference or "" for prompt in prompts])
        posts = self._embed([prompt.fields["post"] for prompt in prompts])
        answers = self._encoder.encode(list(responses)).astype(np.float64)
        scores = (
            REFERENCE_WEIGHT * (answers * references).sum(1)
            + POST_WEIGHT * (answers * posts).sum(1)
            + [brevity(response) + completeness(response) for response in responses]
        )
        return np.where([bool(response.strip()) for response in responses], scores, EMPTY_SCORE)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts of the source, each of them once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts]).astype(np.float64)
