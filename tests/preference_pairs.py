"""Random preference pairs of various lengths."""

from __future__ import annotations

import numpy as np

from rllib_sea.duels.records import PreferencePair


def random_pairs(
    num: int, seed: int = 0, *, vocabulary: int = 256, longest: int = 12
) -> list[PreferencePair]:
    """Pairs with prompts of 1 to ``2 * longest`` tokens, responses of 1 to ``longest``."""
    rng = np.random.default_rng(seed)

    def tokens(most: int) -> tuple[int, ...]:
        return tuple(rng.integers(vocabulary, size=rng.integers(1, most + 1)).tolist())

    return [
        PreferencePair(
            prompt_id=str(i),
            prompt_token_ids=tokens(2 * longest),
            chosen_token_ids=tokens(longest),
            rejected_token_ids=tokens(longest),
            synthetic=False,
        )
        for i in range(num)
    ]
