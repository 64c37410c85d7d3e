"""Pairs as tensors, beside a slow plain construction; minibatches over workers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from preference_pairs import random_pairs

from rllib_sea.duels.records import PreferencePair
from rllib_sea.preference_learning.batching import PairBatch, collate, minibatches, num_tokens

PAIR = PreferencePair("p", (10, 11, 12), (20, 21), (30,), synthetic=False)


def responses(pairs: list[PreferencePair]) -> list[tuple[int, ...]]:
    return [p.chosen_token_ids for p in pairs] + [p.rejected_token_ids for p in pairs]


def check_targets(batch: PairBatch, pairs: list[PreferencePair]) -> None:
    """Every sampled token is a target once, under its own response, in its order."""
    for number, response in enumerate(responses(pairs)):
        assert tuple(batch.target[batch.sequence == number].tolist()) == response
    assert batch.lengths.tolist() == [len(response) for response in responses(pairs)]
    assert batch.num_pairs == len(pairs)


def test_plain_by_hand() -> None:
    batch = collate([PAIR], "plain")
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21], [10, 11, 12, 30, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.predictor.tolist() == [2, 3, 5 + 2]
    assert batch.target.tolist() == [20, 21, 30]
    assert batch.sequence.tolist() == [0, 0, 1]
    assert batch.lengths.tolist() == [2, 1]


def test_packed_by_hand() -> None:
    batch = collate([PAIR], "packed")
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 30]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],  # the rejected response does not see the chosen one
    ]
    assert batch.predictor.tolist() == [2, 3, 2]  # the prompt's last token predicts both
    assert batch.target.tolist() == [20, 21, 30]


def test_plain_beside_a_slow_construction() -> None:
    pairs = random_pairs(6, seed=1)
    batch = collate(pairs, "plain")
    check_targets(batch, pairs)
    width = batch.input_ids.shape[1]
    for row, response in enumerate(responses(pairs)):
        sequence = [*pairs[row % 6].prompt_token_ids, *response]
        padding = [0] * (width - len(sequence))
        assert batch.input_ids[row].tolist() == sequence + padding
        assert batch.attention_mask[row].tolist() == [1] * len(sequence) + padding
        assert batch.position_ids[row].tolist() == [*range(len(sequence)), *padding]
    # The token after each predictor, in its row, is its target.
    assert torch.equal(batch.input_ids.flatten()[batch.predictor + 1], batch.target)


def test_packed_beside_a_slow_construction() -> None:
    pairs = random_pairs(6, seed=2)
    batch = collate(pairs, "packed")
    check_targets(batch, pairs)
    width = batch.input_ids.shape[1]
    assert width == max(map(num_tokens, pairs))
    for row, pair in enumerate(pairs):
        owner = (
            ["prompt"] * len(pair.prompt_token_ids)
            + ["chosen"] * len(pair.chosen_token_ids)
            + ["rejected"] * len(pair.rejected_token_ids)
        )
        for query, asks in enumerate(owner):
            for key in range(width):
                sees = key <= query and not (asks == "rejected" and owner[key] == "chosen")
                assert bool(batch.attention_mask[row, 0, query, key]) == sees
            seen = int(batch.attention_mask[row, 0, query].sum())
            assert batch.position_ids[row, query] == seen - 1
    # No row of the mask is empty, that of padding included: it would be NaN.
    assert batch.attention_mask.any(-1).all()


@pytest.mark.parametrize("layout", ["plain", "packed"])
@pytest.mark.parametrize("empty", ["prompt", "chosen", "rejected"])
def test_an_empty_part_is_refused(layout: str, empty: str) -> None:
    pair = dataclasses.replace(PAIR, **{f"{empty}_token_ids": ()})
    with pytest.raises(ValueError, match="prompt 'p': an empty prompt or response"):
        collate([PAIR, pair], layout)


@pytest.mark.parametrize("num", [1, 5, 16, 17])
@pytest.mark.parametrize("size", [1, 4, 16])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_each_pair_is_in_one_minibatch_of_one_worker(num: int, size: int, world_size: int) -> None:
    pairs = random_pairs(num, seed=3)
    parts = [minibatches(pairs, size, rank, world_size) for rank in range(world_size)]
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(num))
    assert len({len(part) for part in parts}) == 1
    assert all(len(batch) <= size for part in parts for batch in part)
    shares = [sum(map(len, part)) for part in parts]
    assert max(shares) - min(shares) <= 1


def test_minibatches_hold_pairs_of_similar_length_longest_first() -> None:
    pairs = random_pairs(12, seed=4)
    lengths = [num_tokens(pairs[i]) for batch in minibatches(pairs, 3) for i in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_a_worker_whose_share_has_ended_has_empty_minibatches() -> None:
    pairs = random_pairs(5, seed=5)
    assert list(map(len, minibatches(pairs, 2, 0, 2))) == [2, 1]
    assert list(map(len, minibatches(pairs, 1, 1, 2))) == [1, 1, 0]
    assert minibatches(pairs[:1], 4, 1, 2) == [[]]
