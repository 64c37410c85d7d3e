"""The known reward: a fixed random network of the words of a response and of its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_sea.settings import checks as check
from studies.tiny_lm.words import DIM, word_vectors, words_of
from text_duel import Prompt
from text_duel.oracles import ScoringOracle

# Of the network: what it sees of the word space, and its units.
INPUTS, WIDTH = 3, 16
GAIN = 0.7
# The prompt moves the hidden units by this much of what the response does.
PROMPT_GAIN = 0.5
BIAS = 0.5
# A pair of the decoder's responses then differs by a standard deviation of about 2.
SCALE = 2.0


class WordNetworkOracle(ScoringOracle):
    """Scores responses by a random tanh network that nothing but labels gives away.

    A text is the sum of the :func:`vectors <studies.tiny_lm.words.word_vectors>` of its
    *different* words, over the root of their number, so that neither length nor repetition
    pays. The network sees 3 random directions of that; response and prompt go through one layer
    of 16 tanh units::

        score = scale * out . tanh(W_r u(response) + W_p u(prompt) + b)

    less its mean and over its standard deviation on normal vectors.

    Args:
        seed: Of all that is random: each seed is a world of its own.
        scale: Standard deviation of scores over normal vectors.
    """

    def __init__(self, seed: int = 0, scale: float = SCALE) -> None:
        self.check_config(seed=seed, scale=scale)
        self.name = f"word_network(seed={seed}, scale={scale:g})"
        rng = np.random.default_rng(seed)
        directions, _ = np.linalg.qr(rng.standard_normal((DIM, INPUTS)))
        self._vectors = {word: vector @ directions for word, vector in word_vectors().items()}
        root = np.sqrt(INPUTS)
        self._response = rng.standard_normal((INPUTS, WIDTH)) * GAIN / root
        self._prompt = rng.standard_normal((INPUTS, WIDTH)) * GAIN * PROMPT_GAIN / root
        self._bias = rng.standard_normal(WIDTH) * BIAS
        self._out = rng.standard_normal(WIDTH)
        # Over normal inputs, so that every seed has the same spread.
        units = self._units(
            rng.standard_normal((4096, INPUTS)), rng.standard_normal((4096, INPUTS))
        )
        values = units @ self._out
        self._mean, self._factor = values.mean(), scale / values.std()

    @classmethod
    def check_config(cls, **config: Any) -> None:
        check.check_int("oracle_config.seed", config.get("seed", 0), 0)
        check.check_number("oracle_config.scale", config.get("scale", 1.0), open_low=True)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        if not responses:
            return np.zeros(0)
        asked = np.stack([self._text_vector(prompt.text) for prompt in prompts])
        answered = np.stack([self._text_vector(response) for response in responses])
        return (self._units(answered, asked) @ self._out - self._mean) * self._factor

    def _units(self, responses: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        """(N, 16) from text vectors (N, 3) each."""
        return np.tanh(responses @ self._response + prompts @ self._prompt + self._bias)

    def _text_vector(self, text: str) -> np.ndarray:
        known = self._vectors.keys() & set(words_of(text))
        if not known:
            return np.zeros(INPUTS)
        # In a fixed order, for the same sum to the last bit.
        return np.sum([self._vectors[word] for word in sorted(known)], axis=0) / len(known) ** 0.5
