"""Features of (prompt, response) from the policy itself: its last hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.model_folder import has_cache, load_policy
from rllib_sea.policy.precision import auto_dtype

# Tokens of prompts and responses whose keys and values are held at a time. On a CPU prompts are
# computed one by one: that is as fast, and no prompt's features depend on the others' rounding.
TOKENS_PER_BATCH = {"cpu": 1, "cuda": 65536}


class PolicyEncoder:
    """The initial policy as a frozen encoder: its last hidden state at a response's last token.

    The state is the one that the output embedding reads, after the model's last norm, divided
    by its own root mean square. It is computed in :func:`rllib_sea.policy.precision.auto_dtype`.

    A prompt is computed once for its M responses, which continue its keys and values; a model
    without such a cache, a recurrent one, reads it with each. Tokens are the sampled ones, the end
    token included if it was sampled.

    Args:
        path: The policy's folder. Its weights are read once: later updates do not change the
            features.
    """

    def __init__(self, path: Path) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_policy(path, auto_dtype(), "erm_encoder").to(device)
        self._model.requires_grad_(False)
        self._caches = has_cache(self._model)
        self._tokens_per_batch = TOKENS_PER_BATCH[device]
        self.dim = int(self._model.get_output_embeddings().weight.shape[1])

    def encode(
        self,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Candidate]],
    ) -> np.ndarray:
        """See :meth:`rllib_sea.reward_model.encoder.CandidateEncoder.encode`.

        Only tokens are read; each response has at least one.
        """
        responses = [[candidate.token_ids for candidate in row] for row in candidates]
        num_candidates = len(responses[0]) if responses else 0
        longest_response = max((len(ids) for row in responses for ids in row), default=0)
        result = np.empty((len(responses), num_candidates, self.dim), dtype=np.float32)
        order = sorted(range(len(responses)), key=lambda i: len(prompt_token_ids[i]), reverse=True)
        while order:
            tokens = num_candidates * (len(prompt_token_ids[order[0]]) + longest_response)
            size = max(1, self._tokens_per_batch // tokens)
            rows, order = order[:size], order[size:]
            result[rows] = self._encode_batch(
                [prompt_token_ids[i] for i in rows], [responses[i] for i in rows]
            )
        return result

    @torch.inference_mode()
    def _encode_batch(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[Sequence[int]]]
    ) -> np.ndarray:
        """(B, M, dim) features of B prompts with M responses each."""
        device, num_candidates = self._model.device, len(responses[0])
        flat = [response for row in responses for response in row]
        if not self._caches:
            prompts = [prompt for prompt in prompts for _ in range(num_candidates)]
            flat = [[*prompt, *response] for prompt, response in zip(prompts, flat, strict=True)]
            ids, mask = _padded(flat, left=False)
            last = self._last_states(mask, input_ids=ids.to(device), use_cache=False)
            return last.view(len(responses), num_candidates, -1).cpu().numpy()
        # Left padding for prompts and right padding for responses: without a gap between them.
        prompt_ids, prompt_mask = _padded(prompts, left=True)
        prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device)
        cache = self._model(
            input_ids=prompt_ids,
            attention_mask=prompt_mask,
            position_ids=(prompt_mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        ).past_key_values
        cache.batch_repeat_interleave(num_candidates)

        ids, mask = _padded(flat, left=False)
        ids, mask = ids.to(device), mask.to(device)
        prompt_mask = prompt_mask.repeat_interleave(num_candidates, dim=0)
        last = self._last_states(
            mask,
            input_ids=ids,
            attention_mask=torch.cat([prompt_mask, mask], dim=1),
            position_ids=prompt_mask.sum(1, keepdim=True) + torch.arange(ids.shape[1]).to(device),
            past_key_values=cache,
            use_cache=True,
        )
        return last.view(len(prompts), num_candidates, -1).cpu().numpy()

    def _last_states(self, mask: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """(N, dim) float32: what the output embedding reads at the last tokens, scaled."""
        read: list[torch.Tensor] = []

        def only_last(head: torch.nn.Module, args: tuple[torch.Tensor]) -> torch.Tensor:
            hidden = args[0]
            last = mask.to(hidden.device).sum(1) - 1
            read.append(hidden[torch.arange(len(last)).to(hidden.device), last])
            return read[-1]

        with self._model.get_output_embeddings().register_forward_pre_hook(only_last):
            self._model(**inputs)
        states = read[0].float()
        return states / states.square().mean(1, keepdim=True).sqrt()


def _padded(token_ids: Sequence[Sequence[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, L) token ids and attention mask of N sequences."""
    width = max(map(len, token_ids))
    padded = torch.zeros(len(token_ids), width, dtype=torch.int64)
    mask = torch.zeros_like(padded)
    for row, ids in enumerate(token_ids):
        columns = slice(width - len(ids), width) if left else slice(0, len(ids))
        padded[row, columns] = torch.tensor(ids, dtype=torch.int64)
        mask[row, columns] = 1
    return padded, mask
