"""vLLM in this process: sampling with prefix caching, weights replaced in place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rllib_sea.duels.records import Candidate, FinishReason, SamplingConfig
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.precision import AUTO, resolve_dtype

# The smallest KV block of the CPU build, which caches full blocks only: with its default of
# 128 the M samples of a short prompt would each prefill the prompt again.
CPU_BLOCK_SIZE = 32


class VLLMSampler:
    """A vLLM engine; see :class:`rllib_sea.policy.sampler.Sampler`.

    Args:
        path: The model's folder.
        max_model_len: Longest prompt and response together, in tokens.
        num_threads: CPU threads; None leaves vLLM's choice.
        kv_cache_gib: Size of the KV cache on a CPU.
        gpu_memory_utilization: Share of a GPU's memory that the engine takes.
        dtype: Of the weights, such as ``"float32"``; ``"auto"``: see
            :func:`rllib_sea.precision.auto_dtype`.
        max_num_seqs: Sequences sampled at a time (the generation batch).
        enforce_eager: No compilation: the engine starts in seconds instead of a minute, and
            is as fast on a CPU.
    """

    def __init__(
        self,
        path: Path,
        max_model_len: int,
        *,
        num_threads: int | None = None,
        kv_cache_gib: int = 2,
        gpu_memory_utilization: float = 0.4,
        dtype: str = AUTO,
        max_num_seqs: int = 256,
        enforce_eager: bool = True,
    ) -> None:
        # Read by vLLM when it is imported or when the engine starts.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if num_threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(num_threads)
        from vllm import LLM

        on_gpu = torch.cuda.is_available()
        options = (
            {"gpu_memory_utilization": gpu_memory_utilization}
            if on_gpu
            # Seeds crash in chunked prefills of the CPU build.
            else {"block_size": CPU_BLOCK_SIZE, "enable_chunked_prefill": False}
        )
        self._llm = LLM(
            model=str(path),
            load_format="safetensors",
            trust_remote_code=False,
            dtype=resolve_dtype(dtype),
            max_model_len=max_model_len,
            max_num_batched_tokens=max(8192, max_model_len),
            max_num_seqs=max_num_seqs,
            enforce_eager=enforce_eager,
            enable_prefix_caching=True,
            logprobs_mode="raw_logprobs",
            seed=0,
            **options,
        )
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._tokenizer = PromptTokenizer(path)
        self.policy_version = 0

    def generate(
        self,
        prompt_token_ids: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seeds: Sequence[int],
    ) -> list[list[Candidate]]:
        """See :meth:`rllib_sea.policy.sampler.Sampler.generate`."""
        from vllm import SamplingParams

        outputs = self._llm.generate(
            [{"prompt_token_ids": list(ids)} for ids in prompt_token_ids],
            [
                SamplingParams(
                    n=n,
                    max_tokens=sampling.max_new_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=seed,
                    logprobs=0,
                    # vLLM decodes responses after their prompts, some of whose text it gives
                    # back where a character is split into tokens.
                    detokenize=False,
                )
                for seed in seeds
            ],
            use_tqdm=False,
        )
        return [[self._candidate(sample) for sample in output.outputs] for output in outputs]

    def _candidate(self, sample: Any) -> Candidate:
        token_ids = tuple(sample.token_ids)
        logprobs = tuple(
            step[token].logprob for step, token in zip(sample.logprobs, token_ids, strict=True)
        )
        reason: FinishReason = "stop" if sample.finish_reason == "stop" else "length"
        return Candidate(self._tokenizer.decode(token_ids), token_ids, logprobs, reason)

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.load_weights`."""
        self._llm.collective_rpc(_reload, args=(list(weights.items()),))
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept prefixes that old weights computed")
        self.policy_version = version

    def close(self) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.close`."""
        self._llm.llm_engine.engine_core.shutdown()


def _reload(worker: object, items: list[tuple[str, torch.Tensor]]) -> None:
    worker.model_runner.reload_weights(weights_iterator=iter(items))  # type: ignore[attr-defined]
