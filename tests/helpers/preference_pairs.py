"""Random preference pairs, and prompts with responses, of various lengths."""

from __future__ import annotations

import numpy as np

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy_update.scores import PromptResponses


def random_pairs(
    num: int, seed: int = 0, *, vocabulary: int = 256, longest: int = 12
) -> list[PreferencePair]:
    """Pairs with prompts of 1 to ``2 * longest`` tokens, responses of 1 to ``longest``.

    In turn the chosen and the rejected response are from the reference policy.
    """
    rng = np.random.default_rng(seed)

    def tokens(most: int) -> tuple[int, ...]:
        return _tokens(rng, vocabulary, most)

    return [
        PreferencePair(
            prompt_id=str(i),
            prompt_token_ids=tokens(2 * longest),
            chosen_token_ids=tokens(longest),
            rejected_token_ids=tokens(longest),
            synthetic=False,
            from_reference="rejected" if i % 2 else "chosen",
        )
        for i in range(num)
    ]


def random_prompts(
    num: int, seed: int = 0, *, vocabulary: int = 256, longest: int = 12, most_responses: int = 5
) -> list[PromptResponses]:
    """Prompts of 1 to ``2 * longest`` tokens with 1 to ``most_responses`` responses each."""
    rng = np.random.default_rng(seed)
    return [
        PromptResponses(
            _tokens(rng, vocabulary, 2 * longest),
            tuple(
                _tokens(rng, vocabulary, longest)
                for _ in range(rng.integers(1, most_responses + 1))
            ),
        )
        for _ in range(num)
    ]


def _tokens(rng: np.random.Generator, vocabulary: int, most: int) -> tuple[int, ...]:
    return tuple(rng.integers(vocabulary, size=rng.integers(1, most + 1)).tolist())
