"""Which labelled pairs the policy sees again."""

from __future__ import annotations

import numpy as np

from rllib_sea.policy_update.replay import draw_replayed
from rllib_sea.randomness import Stream, generator


def test_draws_are_uniform_and_without_repeats() -> None:
    counts = np.zeros(10)
    for step in range(3000):
        drawn = draw_replayed(10, 4, generator(1, 2, step, Stream.POLICY_REPLAY))
        assert len(set(drawn.tolist())) == len(drawn) == 4
        counts[drawn] += 1
    # 1200 each; five standard deviations of a binomial count are 134.
    assert np.abs(counts - 1200).max() < 134


def test_fewer_pairs_than_wanted_are_all_drawn() -> None:
    assert sorted(draw_replayed(3, 8, np.random.default_rng(0)).tolist()) == [0, 1, 2]
    assert draw_replayed(0, 8, np.random.default_rng(0)).tolist() == []


def test_a_draw_is_its_seed_round_and_step() -> None:
    def drawn(*key: int) -> list[int]:
        return draw_replayed(1000, 5, generator(*key, Stream.POLICY_REPLAY)).tolist()

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    assert len({tuple(drawn(*key)) for key in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}) == 4
