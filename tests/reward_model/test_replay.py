"""The replay of oracle labels."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_sea.reward_model.replay import PreferenceReplay


def replay(num: int) -> PreferenceReplay:
    """Label i has the features (i, i) and (-i, -i)."""
    filled = PreferenceReplay()
    for i in range(num):
        filled.add(np.full(2, i, dtype=np.float64), np.full(2, -i, dtype=np.float64))
    return filled


def test_minibatches_hold_each_label_at_most_once_and_keep_pairs_together() -> None:
    chosen, rejected = replay(10).minibatches(5, 6, np.random.default_rng(0))
    assert chosen.shape == rejected.shape == (30, 2)
    assert chosen.dtype == rejected.dtype == np.float32
    assert np.array_equal(chosen, -rejected)
    batches = chosen[:, 0].reshape(5, 6)
    assert all(len(set(batch)) == 6 for batch in batches.tolist())
    assert len({tuple(batch) for batch in batches.tolist()}) > 1
    assert set(batches.flatten().tolist()) <= set(range(10))


def test_a_small_replay_gives_all_it_has() -> None:
    chosen, _ = replay(3).minibatches(2, 128, np.random.default_rng(0))
    assert [sorted(batch) for batch in chosen[:, 0].reshape(2, 3).tolist()] == [[0, 1, 2]] * 2


def test_the_same_generator_draws_the_same() -> None:
    draws = [replay(20).minibatches(2, 8, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("num", [0, 1, 7])
def test_the_state_is_everything(num: int) -> None:
    source, copy = replay(num), replay(3)
    copy.set_state(source.get_state())
    assert len(copy) == num
    copy.add(np.ones(2), np.zeros(2))
    source.add(np.ones(2), np.zeros(2))
    one, other = (r.minibatches(1, 99, np.random.default_rng(0)) for r in (source, copy))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_what_was_added_does_not_change_with_the_callers_array() -> None:
    filled, row = PreferenceReplay(), np.ones(2, dtype=np.float32)
    filled.add(row, row)
    row[:] = 5.0
    assert filled.minibatches(1, 1, np.random.default_rng(0))[0].tolist() == [[1.0, 1.0]]
