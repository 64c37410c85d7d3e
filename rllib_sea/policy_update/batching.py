"""Prompts with responses as right-padded tensors, in one of two layouts.

    plain    a row for each response: [prompt, response]
    packed   a row for each prompt: [prompt, response 1, ..., response n]; every response goes
             on from the prompt's last position and does not see the others

The packed layout computes each prompt once instead of n times. Both give the same numbers;
:func:`rllib_sea.policy_update.logprobs.choose_layout` says which one a model can do.

Nothing is ever truncated: tokens that were sampled are the tokens that are trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Literal

import torch

from rllib_sea.policy_update.scores import PromptResponses

Layout = Literal["plain", "packed"]


@dataclass(frozen=True, slots=True)
class ResponseBatch:
    """S responses as R rows of L tokens, of which T in all are tokens of responses.

    Attributes:
        input_ids: (R, L) int64, padded on the right with 0.
        position_ids: (R, L) int64; the padding's are 0.
        attention_mask: (R, L) int64, 1 for tokens (plain), or (R, 1, L, L) bool, true where
            a query may look (packed).
        predictor: (T,) int64, flat positions in (R, L) whose hidden states predict the
            responses' tokens.
        target: (T,) int64, those tokens.
        lengths: (S,) int64, tokens of each response; the first prompt's come first.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    predictor: torch.Tensor
    target: torch.Tensor
    lengths: torch.Tensor

    def to(self, device: torch.device | str) -> ResponseBatch:
        """The same on another device."""
        return ResponseBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def collate(prompts: Sequence[PromptResponses], layout: Layout) -> ResponseBatch:
    """Lays prompts with their responses out as tensors.

    Args:
        prompts: At least one.
        layout: A row for each response, or for each prompt.

    Returns:
        The batch, on the CPU.
    """
    return _collate_packed(prompts) if layout == "packed" else _collate_plain(prompts)


def _collate_plain(prompts: Sequence[PromptResponses]) -> ResponseBatch:
    pairs = [(p.prompt_token_ids, response) for p in prompts for response in p.responses]
    rows = [[*prompt, *response] for prompt, response in pairs]
    length = max(map(len, rows))
    mask = _padded([[1] * len(row) for row in rows], length)
    predictor = [
        row * length + len(prompt) - 1 + step
        for row, (prompt, response) in enumerate(pairs)
        for step in range(len(response))
    ]
    return ResponseBatch(
        _padded(rows, length),
        _padded([list(range(len(row))) for row in rows], length),
        mask,
        torch.tensor(predictor),
        *_targets(prompts),
    )


def _collate_packed(prompts: Sequence[PromptResponses]) -> ResponseBatch:
    length = max(p.num_tokens for p in prompts)
    rows, positions = [], []
    predictor: list[int] = []
    # Causal, but for the rectangles (a response's queries, earlier responses' keys). Padding
    # is causal too: every query sees something (a fully masked row is NaN in some attention
    # kernels), and no token sees the padding, which is to its right.
    mask = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(prompts), 1, 1, 1)
    for row, prompt in enumerate(prompts):
        start, end_prompt = row * length, len(prompt.prompt_token_ids)
        row_ids, row_positions = list(prompt.prompt_token_ids), list(range(end_prompt))
        for response in prompt.responses:
            first = len(row_ids)
            mask[row, 0, first:, end_prompt:first] = False
            # The last token of the prompt predicts the first one of every response.
            predictor.append(start + end_prompt - 1)
            predictor += range(start + first, start + first + len(response) - 1)
            row_ids += response
            row_positions += range(end_prompt, end_prompt + len(response))
        rows.append(row_ids)
        positions.append(row_positions)
    return ResponseBatch(
        _padded(rows, length),
        _padded(positions, length),
        mask,
        torch.tensor(predictor),
        *_targets(prompts),
    )


def _targets(prompts: Sequence[PromptResponses]) -> tuple[torch.Tensor, torch.Tensor]:
    responses = [response for prompt in prompts for response in prompt.responses]
    target = torch.tensor([token for response in responses for token in response])
    return target, torch.tensor([len(response) for response in responses])


def _padded(rows: Sequence[Sequence[int]], length: int) -> torch.Tensor:
    out = torch.zeros(len(rows), length, dtype=torch.int64)
    for row, values in enumerate(rows):
        out[row, : len(values)] = torch.tensor(values)
    return out


def sum_by_response(values: torch.Tensor, batch: ResponseBatch) -> torch.Tensor:
    """(S, ...) sums over each response's tokens of (T, ...) values.

    In the order of the tokens: an ``index_add`` would add in any order on a GPU, and policy and
    reference would differ before the first step.
    """
    return torch.segment_reduce(values, "sum", lengths=batch.lengths, axis=0)


def minibatches(
    prompts: Sequence[PromptResponses], size: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """One worker's part of the work, cut into minibatches of similar lengths.

    Prompts are dealt out in order of length, so that workers have equally much to do. Every
    worker gets the same number of minibatches, since some strategies communicate in each;
    they are empty if the prompts do not suffice.

    Args:
        prompts: All workers' prompts, at least one.
        size: Most responses in a minibatch; a prompt that has more is alone in one.
        rank: The worker's number.
        world_size: Number of workers.

    Returns:
        Indices into ``prompts``; over all workers each index occurs exactly once.
    """
    # Longest first: if memory does not suffice, it shows at once.
    order = sorted(range(len(prompts)), key=lambda i: (-prompts[i].num_tokens, i))
    parts = [_cut(prompts, order[r::world_size], size) for r in range(world_size)]
    count = max(map(len, parts))
    return parts[rank] + [[] for _ in range(count - len(parts[rank]))]


def _cut(prompts: Sequence[PromptResponses], share: list[int], size: int) -> list[list[int]]:
    """Consecutive prompts with at most ``size`` responses together."""
    part: list[list[int]] = []
    filled = size
    for i in share:
        num = len(prompts[i].responses)
        if filled + num > size:
            part.append([])
            filled = 0
        part[-1].append(i)
        filled += num
    return part


def offsets(prompts: Sequence[PromptResponses]) -> list[int]:
    """The place of each prompt's first response among the responses of all prompts."""
    return [0, *accumulate(len(prompt.responses) for prompt in prompts)][:-1]
