"""The space of arbitrary text."""

import copy
import pickle

import pytest
from gymnasium.spaces import Text
from gymnasium.vector.utils import batch_space

from text_duel.spaces import UnicodeText


def test_any_characters_up_to_the_length_are_inside() -> None:
    space = UnicodeText(5)
    for text in ("", "abcde", "äöü\n", "日本語", "🙂" * 5):
        assert text in space
    for other in ("abcdef", 3, None, b"abc", ["a"]):
        assert other not in space


def test_samples_are_short_seeded_and_inside() -> None:
    space, twin = UnicodeText(10_000, seed=1), UnicodeText(10_000, seed=1)
    samples = [space.sample() for _ in range(200)]
    assert samples == [twin.sample() for _ in range(200)]
    assert all(sample in space and len(sample) <= 64 for sample in samples)
    assert len(set(samples)) > 150
    assert len(space.sample(mask=(100, None))) == 100
    assert all(len(UnicodeText(3, seed=s).sample()) <= 3 for s in range(20))


def test_equality_copies_and_batches() -> None:
    space = UnicodeText(7)
    assert space == UnicodeText(7) == copy.deepcopy(space) == pickle.loads(pickle.dumps(space))
    assert space != UnicodeText(8)
    assert space != Text(7)
    batch = batch_space(space, 3)
    assert ("", "ü", "abc") in batch
    assert ("", "ü") not in batch
    assert batch.sample() in batch


def test_it_has_no_flat_form() -> None:
    with pytest.raises(AttributeError):
        _ = UnicodeText(7).n
    assert not UnicodeText(7).is_np_flattenable
