"""One place where every random draw of a run comes from.

All that is random about a prompt in a round is drawn from a generator that is keyed
by ``(seed, round, position, stream)``. Results therefore do not depend on how many
env runners share a round, on which of them answers first, or on restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a generator is used for; distinct uses never share draws."""

    SAMPLING = 0
    SELECTION = 1
    MIXING = 2
    LABEL = 3
    REPLAY = 4
    PROMPTS = 5
    ERM_INIT = 6
    SYNTHETIC_LABEL = 7
    REFERENCE_SAMPLING = 8
    BEST_OF_N = 9
    BOOTSTRAP = 10
    KL_SAMPLING = 11
    POLICY_REPLAY = 12
    SIDES = 13
    OVERLAP = 14
    CHECKS = 15
    FORECAST = 16
    AUDIT = 17
    EVALUATION_SAMPLING = 18


def generator(
    seed: int, round_index: int, position: int, stream: Stream, whose: str = ""
) -> np.random.Generator:
    """The generator of one prompt's place in one round, for one use; of one rater's, if named."""
    return np.random.default_rng([seed, round_index, position, int(stream), *whose.encode()])


def generators(
    seed: int, round_index: int, positions: Sequence[int], stream: Stream
) -> list[np.random.Generator]:
    """One generator for each position."""
    return [generator(seed, round_index, position, stream) for position in positions]


def integer_seeds(
    seed: int, round_index: int, positions: Sequence[int], stream: Stream
) -> list[int]:
    """One well-spread seed in [0, 2**31 - 2**16) for each position.

    The upper margin leaves room for engines that give the i-th sample of a prompt the
    seed ``seed + i``.
    """
    high = 2**31 - 2**16
    return [int(rng.integers(0, high)) for rng in generators(seed, round_index, positions, stream)]


def prompt_order(num_prompts: int, seed: int, start: int, count: int) -> list[int]:
    """Places ``start`` to ``start + count`` of an endless walk over the prompts.

    Each epoch visits every prompt once, in an order of its own.

    Args:
        num_prompts: Size of the prompt set, at least 1.
        seed: The run's seed.
        start: How many prompts were drawn before.
        count: How many to draw.

    Returns:
        ``count`` indices in [0, num_prompts).
    """
    indices: list[int] = []
    place = start
    while len(indices) < count:
        epoch, offset = divmod(place, num_prompts)
        order = generator(seed, epoch, 0, Stream.PROMPTS).permutation(num_prompts)
        taken = order[offset : offset + count - len(indices)]
        indices.extend(int(i) for i in taken)
        place += len(taken)
    return indices
