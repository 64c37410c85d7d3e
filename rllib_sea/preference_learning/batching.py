"""Preference pairs as right-padded tensors, in one of two layouts.

    plain    two rows a pair: [prompt, chosen] and [prompt, rejected]
    packed   one row a pair: [prompt, chosen, rejected]; the rejected response goes on from
             the prompt's last position and does not see the chosen one

The packed layout computes each prompt once instead of twice. Both give the same numbers;
:func:`rllib_sea.preference_learning.logprobs.choose_layout` says which one a model can do.

Nothing is ever truncated: tokens that were sampled are the tokens that are trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch

from rllib_sea.duels.records import PreferencePair

Layout = Literal["plain", "packed"]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B pairs as R rows of L tokens, of which T in all are tokens of responses.

    Attributes:
        input_ids: (R, L) int64, padded on the right with 0.
        position_ids: (R, L) int64; the padding's are 0.
        attention_mask: (R, L) int64, 1 for tokens (plain), or (R, 1, L, L) bool, true where
            a query may look (packed).
        predictor: (T,) int64, flat positions in (R, L) whose hidden states predict the
            responses' tokens.
        target: (T,) int64, those tokens.
        sequence: (T,) int64, which response each belongs to: b for the chosen response of
            pair b, B + b for its rejected one.
        lengths: (2 B,) int64, tokens of each response.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    predictor: torch.Tensor
    target: torch.Tensor
    sequence: torch.Tensor
    lengths: torch.Tensor

    @property
    def num_pairs(self) -> int:
        """B."""
        return len(self.lengths) // 2

    def to(self, device: torch.device | str) -> PairBatch:
        """The same on another device."""
        return PairBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def collate(pairs: Sequence[PreferencePair], layout: Layout) -> PairBatch:
    """Lays pairs out as tensors.

    Args:
        pairs: At least one; each response and prompt has at least one token.
        layout: Two rows a pair, or one.

    Returns:
        The batch, on the CPU.

    Raises:
        ValueError: For an empty prompt or response: it has no log-probability to train on.
    """
    for pair in pairs:
        if not (pair.prompt_token_ids and pair.chosen_token_ids and pair.rejected_token_ids):
            raise ValueError(f"prompt {pair.prompt_id!r}: an empty prompt or response")
    return _collate_packed(pairs) if layout == "packed" else _collate_plain(pairs)


def _collate_plain(pairs: Sequence[PreferencePair]) -> PairBatch:
    responses = [pair.chosen_token_ids for pair in pairs]
    responses += [pair.rejected_token_ids for pair in pairs]
    prompts = [pair.prompt_token_ids for pair in pairs] * 2
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    length = max(map(len, rows))
    input_ids = _padded(rows, length)
    position_ids = _padded([list(range(len(row))) for row in rows], length)
    mask = _padded([[1] * len(row) for row in rows], length)
    predictor = [
        row * length + len(prompt) - 1 + step
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        for step in range(len(response))
    ]
    return PairBatch(input_ids, position_ids, mask, torch.tensor(predictor), *_targets(responses))


def _collate_packed(pairs: Sequence[PreferencePair]) -> PairBatch:
    num_pairs = len(pairs)
    rows = [[*p.prompt_token_ids, *p.chosen_token_ids, *p.rejected_token_ids] for p in pairs]
    length = max(map(len, rows))
    positions = []
    # Causal, but for the rectangle (rejected queries, chosen keys). Padding is causal too:
    # every query sees something (a fully masked row is NaN in some attention kernels), and
    # no token sees the padding, which is to its right.
    mask = torch.ones(length, length, dtype=torch.bool).tril().repeat(num_pairs, 1, 1, 1)
    predictor_chosen: list[int] = []
    predictor_rejected: list[int] = []
    for row, pair in enumerate(pairs):
        prompt, chosen = len(pair.prompt_token_ids), len(pair.chosen_token_ids)
        rejected = len(pair.rejected_token_ids)
        end_chosen = prompt + chosen
        positions.append([*range(end_chosen), *range(prompt, prompt + rejected)])
        mask[row, 0, end_chosen:, prompt:end_chosen] = False
        start = row * length
        predictor_chosen += range(start + prompt - 1, start + end_chosen - 1)
        # The last token of the prompt predicts the first one of both.
        predictor_rejected.append(start + prompt - 1)
        predictor_rejected += range(start + end_chosen, start + end_chosen + rejected - 1)
    responses = [p.chosen_token_ids for p in pairs] + [p.rejected_token_ids for p in pairs]
    return PairBatch(
        _padded(rows, length),
        _padded(positions, length),
        mask,
        torch.tensor(predictor_chosen + predictor_rejected),
        *_targets(responses),
    )


def _targets(
    responses: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(response) for response in responses])
    target = torch.tensor([token for response in responses for token in response])
    return target, torch.repeat_interleave(torch.arange(len(responses)), lengths), lengths


def _padded(rows: Sequence[Sequence[int]], length: int) -> torch.Tensor:
    out = torch.zeros(len(rows), length, dtype=torch.int64)
    for row, values in enumerate(rows):
        out[row, : len(values)] = torch.tensor(values)
    return out


def num_tokens(pair: PreferencePair) -> int:
    """Length of a pair's packed row."""
    return len(pair.prompt_token_ids) + len(pair.chosen_token_ids) + len(pair.rejected_token_ids)


def minibatches(
    pairs: Sequence[PreferencePair], size: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """One worker's part of a round, cut into minibatches of similar lengths.

    Pairs are dealt out in order of length, so that workers have equally much to do. Every
    worker gets the same number of minibatches, since some strategies communicate in each;
    they are empty where the pairs do not suffice.

    Args:
        pairs: The whole round's pairs, at least one.
        size: Most pairs in a minibatch, at least 1.
        rank: The worker's number.
        world_size: Number of workers.

    Returns:
        Indices into ``pairs``; over all workers each index occurs exactly once.
    """
    # Longest first: where memory does not suffice, it shows at once.
    order = sorted(range(len(pairs)), key=lambda i: (-num_tokens(pairs[i]), i))
    share = order[rank::world_size]
    largest_share = -(-len(pairs) // world_size)
    count = -(-largest_share // size)
    return [share[i * size : (i + 1) * size] for i in range(count)]
