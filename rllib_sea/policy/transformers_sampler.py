"""Sampling with transformers alone: the same interface without vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.memory import release_memory
from rllib_sea.policy.model_folder import has_cache, load_policy, replace_weights
from rllib_sea.policy.precision import AUTO, resolve_dtype
from rllib_sea.policy.tokenization import PromptTokenizer


class TransformersSampler:
    """A plain sampling loop with a KV cache; see :class:`rllib_sea.policy.sampler.Sampler`.

    Each prompt is prefilled once and its cache repeated for its n samples; prompts are left
    padded, with explicit positions. Every prompt draws from a generator of its own. A
    model without such a cache, a recurrent one, reads all again for each token, a prompt at a time.

    Args:
        path: The model's folder.
        num_threads: CPU threads; None leaves torch's choice.
        dtype: Of the weights, such as ``"float32"``; ``"auto"``: see
            :func:`rllib_sea.policy.precision.auto_dtype`.
        batch_size: Prompts sampled at a time (the generation batch).
    """

    def __init__(
        self,
        path: Path,
        *,
        num_threads: int | None = None,
        dtype: str = AUTO,
        batch_size: int = 16,
    ) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = resolve_dtype(dtype)
        self._model = load_policy(path, self.dtype).to(self._device)
        self._tokenizer = PromptTokenizer(path)
        self._eos = torch.tensor(sorted(self._tokenizer.eos_token_ids), device=self._device)
        self._caches = has_cache(self._model)
        self._batch_size = batch_size if self._caches else 1
        self.policy_version = 0

    @torch.inference_mode()
    def generate(
        self,
        prompt_token_ids: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seeds: Sequence[int],
    ) -> list[list[Candidate]]:
        """See :meth:`rllib_sea.policy.sampler.Sampler.generate`."""
        result: list[list[Candidate]] = []
        for start in range(0, len(prompt_token_ids), self._batch_size):
            rows = slice(start, start + self._batch_size)
            result += self._generate(prompt_token_ids[rows], n, sampling, seeds[rows])
        return result

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seeds: Sequence[int],
    ) -> list[list[Candidate]]:
        device = self._device
        width = max(map(len, prompts))
        token_ids = torch.zeros(len(prompts), width, dtype=torch.int64, device=device)
        mask = torch.zeros_like(token_ids)
        for row, prompt in enumerate(prompts):
            token_ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
            mask[row, width - len(prompt) :] = 1
        output = self._model(
            input_ids=token_ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=self._caches,
            logits_to_keep=1,
        )
        cache = output.past_key_values if self._caches else None
        if cache is not None:
            cache.batch_repeat_interleave(n)
        logits = output.logits[:, -1].repeat_interleave(n, dim=0).float()
        mask = mask.repeat_interleave(n, dim=0)
        lengths = mask.sum(1)
        rngs = [torch.Generator(device).manual_seed(seed) for seed in seeds]

        done = torch.zeros(len(mask), dtype=torch.bool, device=device)
        sampled, logprobs, finished_at = [], [], torch.full_like(lengths, sampling.max_new_tokens)
        for step in range(sampling.max_new_tokens):
            token = self._draw(logits, n, sampling, rngs)
            sampled.append(token)
            logprobs.append(torch.log_softmax(logits, dim=1).gather(1, token[:, None])[:, 0])
            ends = torch.isin(token, self._eos) & ~done
            finished_at[ends] = step + 1
            done |= ends
            if bool(done.all()) or step + 1 == sampling.max_new_tokens:
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            if cache is None:
                read = token_ids.repeat_interleave(n, dim=0)
                output = self._model(
                    input_ids=torch.cat([read, torch.stack(sampled, dim=1)], dim=1),
                    attention_mask=mask,
                    use_cache=False,
                    logits_to_keep=1,
                )
            else:
                output = self._model(
                    input_ids=token[:, None],
                    attention_mask=mask,
                    position_ids=(lengths + step)[:, None],
                    past_key_values=cache,
                    use_cache=True,
                )
            logits = output.logits[:, -1].float()
        tokens = torch.stack(sampled, dim=1).tolist()
        values = torch.stack(logprobs, dim=1).tolist()
        candidates = [
            self._candidate(tokens[i][:end], values[i][:end], bool(done[i]))
            for i, end in enumerate(finished_at.tolist())
        ]
        return [candidates[i : i + n] for i in range(0, len(candidates), n)]

    def _draw(
        self,
        logits: torch.Tensor,
        n: int,
        sampling: SamplingConfig,
        rngs: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """(B * n,) next tokens; prompt i's n rows are drawn by generator i."""
        if sampling.temperature == 0:
            return logits.argmax(dim=1)
        probabilities = torch.softmax(logits / sampling.temperature, dim=1)
        if sampling.top_p < 1:
            ordered, index = probabilities.sort(dim=1, descending=True)
            # The smallest set whose mass reaches top_p: a token stays while those before it
            # do not reach it.
            ordered[ordered.cumsum(1) - ordered >= sampling.top_p] = 0.0
            probabilities = torch.zeros_like(probabilities).scatter(1, index, ordered)
        return torch.cat(
            [
                torch.multinomial(probabilities[i * n : (i + 1) * n], 1, generator=rng)[:, 0]
                for i, rng in enumerate(rngs)
            ]
        )

    def _candidate(
        self, token_ids: Sequence[int], logprobs: Sequence[float], finished: bool
    ) -> Candidate:
        return Candidate(
            text=self._tokenizer.decode(token_ids),
            token_ids=tuple(token_ids),
            logprobs=tuple(logprobs),
            finish_reason="stop" if finished else "length",
        )

    @torch.inference_mode()
    def logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """See :meth:`rllib_sea.policy.sampler.Sampler.logprobs`."""
        result = []
        for ids in token_ids:
            row = torch.tensor([list(ids)], device=self._device)
            logps = self._model(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1)
            result.append(logps[:-1].gather(1, row[0, 1:, None])[:, 0].tolist())
        return result

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.load_weights`."""
        replace_weights(self._model, weights)
        self.policy_version = version

    def rest(self) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.rest`."""
        release_memory()

    def close(self) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.close`."""
        del self._model
