"""The replay of oracle labels."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_sea.reward_model.replay import PreferenceReplay, draw_mask


def replay(num: int) -> PreferenceReplay:
    """Label i has the features (i, i) and (-i, -i)."""
    filled = PreferenceReplay()
    for i in range(num):
        filled.add(np.full(2, i, dtype=np.float64), np.full(2, -i, dtype=np.float64))
    return filled


def test_minibatches_hold_each_label_at_most_once_and_keep_pairs_together() -> None:
    chosen, rejected, masks, *_ = replay(10).minibatches(5, 6, np.random.default_rng(0))
    assert chosen.shape == rejected.shape == (30, 2)
    assert masks is None
    assert chosen.dtype == rejected.dtype == np.float32
    assert np.array_equal(chosen, -rejected)
    batches = chosen[:, 0].reshape(5, 6)
    assert all(len(set(batch)) == 6 for batch in batches.tolist())
    assert len({tuple(batch) for batch in batches.tolist()}) > 1
    assert set(batches.flatten().tolist()) <= set(range(10))


def test_a_small_replay_gives_all_it_has() -> None:
    chosen, *_ = replay(3).minibatches(2, 128, np.random.default_rng(0))
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


def test_preferences_and_weights_stay_with_their_labels_through_the_state() -> None:
    source, copy = PreferenceReplay(), PreferenceReplay()
    for i in range(7):
        source.add(np.full(2, i), np.full(2, -i), preference=0.5 + i / 16, weight=i / 4)
    copy.set_state(source.get_state())
    source.add(np.full(2, 7), np.full(2, -7))
    copy.add(np.full(2, 7), np.full(2, -7))
    for filled in (source, copy):
        labels = filled.minibatches(4, 5, np.random.default_rng(0))
        assert labels.preferences.dtype == labels.weights.dtype == np.float32
        i = labels.chosen[:, 0]
        assert set(i.tolist()) == set(range(8))
        assert np.array_equal(labels.preferences, np.where(i == 7, 1.0, 0.5 + i / 16))
        assert np.array_equal(labels.weights, np.where(i == 7, 1.0, i / 4))


def masked_replay(num: int, num_members: int = 3) -> PreferenceReplay:
    """As :func:`replay`; bit k of label i's mask is bit k of i + 1."""
    filled = PreferenceReplay()
    for i in range(num):
        mask = np.array([bool(i + 1 >> k & 1) for k in range(num_members)])
        filled.add(np.full(2, i), np.full(2, -i), mask)
    return filled


def test_masks_stay_with_their_labels_through_the_state() -> None:
    source, copy = masked_replay(7), PreferenceReplay()
    copy.set_state(source.get_state())
    for filled in (source, copy):
        chosen, _, masks, *_ = filled.minibatches(4, 5, np.random.default_rng(0))
        assert masks is not None
        assert masks.shape == (20, 3)
        assert masks.dtype == bool
        for label, mask in zip(chosen[:, 0].astype(int), masks, strict=True):
            assert mask.tolist() == [bool(label + 1 >> k & 1) for k in range(3)]
    state = copy.get_state()["masks"]
    assert state.shape == (7, 3)
    assert np.array_equal(state, source.get_state()["masks"])


def test_labels_from_before_masks_are_everyones() -> None:
    filled = replay(2)
    assert filled.get_state()["masks"] is None
    filled.add(np.ones(2), np.ones(2), np.array([True, False]))
    assert filled.get_state()["masks"].tolist() == [[True, True], [True, True], [True, False]]


def test_members_draw_labels_with_the_given_probability_and_each_label_has_one() -> None:
    rng = np.random.default_rng(0)
    masks = np.array([draw_mask(20, 0.3, rng) for _ in range(2000)])
    assert masks.mean() == pytest.approx(0.3, abs=0.01)
    assert masks.mean(axis=0).min() > 0.25
    alone = np.array([draw_mask(4, 1e-9, rng) for _ in range(4000)])
    assert (alone.sum(axis=1) == 1).all()
    np.testing.assert_allclose(alone.mean(axis=0), 0.25, atol=0.03)
    assert draw_mask(5, 1.0, rng).all()
