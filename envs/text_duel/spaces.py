"""A Gymnasium space of arbitrary text."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium.spaces import Text

_SAMPLED_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "


class UnicodeText(Text):
    """All strings of at most ``max_length`` characters, whatever the characters are.

    :class:`gymnasium.spaces.Text` needs a character set; a language model's text has none. Here
    the set of printable ASCII characters is only what :meth:`sample` draws from, and samples are
    short, since a sampled essay helps nobody. Vector environments batch it as a tuple of texts.
    """

    def __init__(
        self,
        max_length: int,
        *,
        sample_max_length: int = 64,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        """Makes the space.

        Args:
            max_length: The most characters, inclusive.
            sample_max_length: The most characters in a sample, unless a mask asks for more.
            seed: The seed for sampling.
        """
        super().__init__(max_length, min_length=0, charset=_SAMPLED_CHARACTERS, seed=seed)
        self.sample_max_length = min(sample_max_length, max_length)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draws a short text of printable ASCII characters; arguments as in ``Text.sample``."""
        if mask is None and probability is None:
            mask = (int(self.np_random.integers(0, self.sample_max_length + 1)), None)
        return super().sample(mask, probability)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string that is short enough."""
        return isinstance(x, str) and len(x) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        """Arbitrary characters have no index."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"
