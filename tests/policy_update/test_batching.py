"""Prompts with responses as tensors, beside a slow plain construction; minibatches over workers."""

from __future__ import annotations

import pytest
import torch

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy_update.batching import (
    ResponseBatch,
    collate,
    minibatches,
    offsets,
    sum_by_response,
)
from rllib_sea.policy_update.scores import PromptResponses, pair_responses
from tests.helpers.preference_pairs import random_pairs, random_prompts

PROMPT = PromptResponses((10, 11, 12), ((20, 21), (30,)))


def responses(prompts: list[PromptResponses]) -> list[tuple[int, ...]]:
    return [response for prompt in prompts for response in prompt.responses]


def check_targets(batch: ResponseBatch, prompts: list[PromptResponses]) -> None:
    """Every sampled token is a target once, under its own response, in its order."""
    assert batch.target.tolist() == [t for response in responses(prompts) for t in response]
    assert batch.lengths.tolist() == [len(response) for response in responses(prompts)]


def test_plain_by_hand() -> None:
    batch = collate([PROMPT], "plain")
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21], [10, 11, 12, 30, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.predictor.tolist() == [2, 3, 5 + 2]
    assert batch.target.tolist() == [20, 21, 30]
    assert batch.lengths.tolist() == [2, 1]


def test_packed_by_hand() -> None:
    batch = collate([PROMPT], "packed")
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 30]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],  # the second response does not see the first one
    ]
    assert batch.predictor.tolist() == [2, 3, 2]  # the prompt's last token predicts both
    assert batch.target.tolist() == [20, 21, 30]


def test_three_responses_packed_by_hand() -> None:
    batch = collate([PromptResponses((5,), ((6,), (7, 8), (9,)))], "packed")
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 1, 2, 1]]
    assert batch.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 0, 0, 1],
    ]
    assert batch.predictor.tolist() == [0, 0, 2, 0]
    assert batch.lengths.tolist() == [1, 2, 1]


def test_one_response_is_the_same_in_both_layouts() -> None:
    prompt = PromptResponses((10, 11), ((20, 21, 22),))
    plain, packed = (collate([prompt], layout) for layout in ("plain", "packed"))
    for name in ("input_ids", "position_ids", "predictor", "target", "lengths"):
        assert torch.equal(getattr(plain, name), getattr(packed, name)), name


def test_plain_beside_a_slow_construction() -> None:
    prompts = random_prompts(6, seed=1)
    batch = collate(prompts, "plain")
    check_targets(batch, prompts)
    width = batch.input_ids.shape[1]
    rows = [[*p.prompt_token_ids, *response] for p in prompts for response in p.responses]
    assert len(batch.input_ids) == len(rows)
    for row, sequence in enumerate(rows):
        padding = [0] * (width - len(sequence))
        assert batch.input_ids[row].tolist() == sequence + padding
        assert batch.attention_mask[row].tolist() == [1] * len(sequence) + padding
        assert batch.position_ids[row].tolist() == [*range(len(sequence)), *padding]
    # The token after each predictor, in its row, is its target.
    assert torch.equal(batch.input_ids.flatten()[batch.predictor + 1], batch.target)


def test_packed_beside_a_slow_construction() -> None:
    prompts = random_prompts(6, seed=2)
    batch = collate(prompts, "packed")
    check_targets(batch, prompts)
    width = batch.input_ids.shape[1]
    assert width == max(prompt.num_tokens for prompt in prompts)
    for row, prompt in enumerate(prompts):
        owner = [-1] * len(prompt.prompt_token_ids)
        for number, response in enumerate(prompt.responses):
            owner += [number] * len(response)
        for query, asks in enumerate(owner):
            for key in range(width):
                sees = key <= query and owner[key] in (-1, asks)
                assert bool(batch.attention_mask[row, 0, query, key]) == sees
            seen = int(batch.attention_mask[row, 0, query].sum())
            assert batch.position_ids[row, query] == seen - 1
    # No row of the mask is empty, that of padding included: it would be NaN.
    assert batch.attention_mask.any(-1).all()


def test_sums_by_response() -> None:
    batch = collate([PROMPT], "packed")
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [5.0, 50.0]])
    assert sum_by_response(values, batch).tolist() == [[3.0, 30.0], [5.0, 50.0]]
    assert sum_by_response(values[:, 0], batch).tolist() == [3.0, 5.0]


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"), [((), (1,), (2,)), ((1,), (), (2,)), ((1,), (2,), ())]
)
def test_an_empty_part_is_refused(prompt: tuple, chosen: tuple, rejected: tuple) -> None:
    pair = PreferencePair("p", prompt, chosen, rejected, synthetic=False)
    with pytest.raises(ValueError, match="prompt 'p': an empty prompt or response"):
        pair_responses(pair)
    with pytest.raises(ValueError, match="an empty prompt or response"):
        PromptResponses((1,), ())


def test_a_pair_is_its_chosen_and_then_its_rejected_response() -> None:
    pair = PreferencePair("p", (10, 11, 12), (20, 21), (30,), synthetic=False)
    assert pair_responses(pair) == PROMPT
    assert PROMPT.num_tokens == 6


@pytest.mark.parametrize("num", [1, 4, 5, 9, 20])
@pytest.mark.parametrize("most", [1, 4, 16])
def test_pieces_are_few_and_equal(num: int, most: int) -> None:
    prompt = PromptResponses((1, 2), tuple((i,) for i in range(num)))
    pieces = prompt.pieces(most)
    assert responses(pieces) == list(prompt.responses)
    assert {piece.prompt_token_ids for piece in pieces} == {(1, 2)}
    sizes = [len(piece.responses) for piece in pieces]
    assert len(sizes) == -(-num // most)
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


def test_offsets_are_places_of_first_responses() -> None:
    prompts = random_prompts(5, seed=6)
    everything = responses(prompts)
    for prompt, offset in zip(prompts, offsets(prompts), strict=True):
        assert tuple(everything[offset : offset + len(prompt.responses)]) == prompt.responses


@pytest.mark.parametrize("num", [1, 5, 16, 17])
@pytest.mark.parametrize("size", [5, 8, 32])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_each_prompt_is_in_one_minibatch_of_one_worker(
    num: int, size: int, world_size: int
) -> None:
    prompts = random_prompts(num, seed=3)
    parts = [minibatches(prompts, size, rank, world_size) for rank in range(world_size)]
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(num))
    assert len({len(part) for part in parts}) == 1
    for batch in (batch for part in parts for batch in part):
        assert sum(len(prompts[i].responses) for i in batch) <= size
    shares = [sum(map(len, part)) for part in parts]
    assert max(shares) - min(shares) <= 1


def test_a_prompt_with_too_many_responses_is_alone() -> None:
    prompts = [PromptResponses((1,), ((2,),) * num) for num in (5, 2, 1)]
    assert minibatches(prompts, 3) == [[0], [1, 2]]


def test_minibatches_hold_prompts_of_similar_length_longest_first() -> None:
    pairs = [pair_responses(pair) for pair in random_pairs(12, seed=4)]
    parts = minibatches(pairs, 6)
    assert list(map(len, parts)) == [3, 3, 3, 3]
    lengths = [pairs[i].num_tokens for batch in parts for i in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_a_worker_whose_share_has_ended_has_empty_minibatches() -> None:
    pairs = [pair_responses(pair) for pair in random_pairs(5, seed=5)]
    assert list(map(len, minibatches(pairs, 4, 0, 2))) == [2, 1]
    assert list(map(len, minibatches(pairs, 2, 1, 2))) == [1, 1, 0]
    assert minibatches(pairs[:1], 8, 1, 2) == [[]]
