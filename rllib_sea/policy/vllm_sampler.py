"""vLLM in this process: sampling with prefix caching, weights replaced in place."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from rllib_sea.duels.records import Candidate, FinishReason, SamplingConfig
from rllib_sea.memory import discard, release_memory
from rllib_sea.policy.model_folder import is_recurrent, load_policy, names_on_disk, weights_of
from rllib_sea.policy.precision import AUTO, resolve_dtype
from rllib_sea.policy.tokenization import PromptTokenizer
from text_duel.errors import ConfigError

# The smallest KV block of the CPU build, which caches full blocks only: with its default of
# 128 the M samples of a short prompt would each prefill the prompt again.
CPU_BLOCK_SIZE = 32

# Model types that vLLM's build for CPUs does not compute, or computes wrongly: an audit would end
# the run (docs/models.md). Of GPUs nothing is known.
NOT_ON_CPU = {
    "deepseek_v3": "its log-probabilities are others",
    "gpt_oss": "its experts do not take new weights in",
    "lfm2": "its log-probabilities are others",
    "mamba": "it has no kernel for it",
    "qwen3_next": "its kernel computes in bfloat16 alone",
}


def check_vllm_model(model: transformers.PreTrainedModel, *, on_gpu: bool) -> None:
    """Checks that vLLM has a class for a model, without importing it.

    Args:
        model: As Transformers has it; its tensors may be on ``meta``.
        on_gpu: Whether the engine will have a GPU.

    Raises:
        ConfigError: It cannot sample from it.
    """
    name = (model.config.architectures or [type(model).__name__])[0]
    module = _vllm_modules().get(name)
    # Without a class of its own, vLLM runs Transformers'.
    is_own = module not in (None, "transformers")
    reason = None
    if not on_gpu:
        reason = NOT_ON_CPU.get(model.config.get_text_config().model_type)
    if module is None and not model.is_backend_compatible():
        reason = "it has no class for it"
    elif not is_own and getattr(model.get_output_embeddings(), "bias", None) is not None:
        reason = "it leaves out the bias of its output embedding"
    if reason is not None:
        raise ConfigError(
            f"policy_model: vLLM does not sample from {name}: {reason}: set sampler: transformers"
        )


@cache
def _vllm_modules() -> dict[str, str]:
    """The architectures that vLLM names, with its modules for them: to import it is slow."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return {}
    source = Path(spec.origin).parent / "model_executor" / "models" / "registry.py"
    return dict(re.findall(r'"(\w+)":\s*\(\s*"(\w+)",', source.read_text(encoding="utf-8")))


class VLLMSampler:
    """A vLLM engine; see :class:`rllib_sea.policy.sampler.Sampler`.

    vLLM reads no weights by itself: it starts with random ones, and gets those of the model's
    folder as it gets all later ones.

    Args:
        path: The model's folder.
        max_model_len: Longest prompt and response together, in tokens.
        num_threads: CPU threads; None leaves vLLM's choice.
        kv_cache_gib: Size of the KV cache on a CPU.
        gpu_memory_utilization: Share of a GPU's memory that the engine takes.
        dtype: Of the weights, such as ``"float32"``; ``"auto"``: see
            :func:`rllib_sea.policy.precision.auto_dtype`.
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
        kv_cache_gib: float = 0.5,
        gpu_memory_utilization: float = 0.4,
        dtype: str = AUTO,
        max_num_seqs: int = 256,
        enforce_eager: bool = True,
    ) -> None:
        # Read by vLLM when it is imported or when the engine starts.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if num_threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(num_threads)
        on_gpu = torch.cuda.is_available()
        if enforce_eager and not on_gpu:
            # Single functions are compiled all the same: a comparison with log-probabilities,
            # for 3 seconds in each process.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        from vllm import LLM

        self.dtype = resolve_dtype(dtype)
        initial = load_policy(path, self.dtype)
        classes = {type(module) for module in initial.modules()}
        unchanged = {cls: (cls.__bases__, dict(vars(cls))) for cls in classes}
        options = (
            {"gpu_memory_utilization": gpu_memory_utilization}
            if on_gpu
            # Seeds crash in chunked prefills of the CPU build.
            else {
                "block_size": CPU_BLOCK_SIZE,
                "enable_chunked_prefill": False,
                "kv_cache_memory_bytes": int(kv_cache_gib * 2**30),
            }
        )
        # vLLM searches this process for garbage half a dozen times while it starts, a third of a
        # second each; what is there already is left out, as vLLM does from then on to its end.
        gc.freeze()
        self._llm = LLM(
            model=str(path),
            load_format="dummy",
            # What ends a response is said with each request.
            generation_config="vllm",
            trust_remote_code=False,
            dtype=self.dtype,
            max_model_len=max_model_len,
            max_num_batched_tokens=max(8192, max_model_len),
            max_num_seqs=max_num_seqs,
            enforce_eager=enforce_eager,
            # On a CPU a recurrent state is cached for chunked prefills only.
            enable_prefix_caching=on_gpu or not is_recurrent(initial),
            logprobs_mode="raw_logprobs",
            seed=0,
            **options,
        )
        self._llm.collective_rpc(_give_classes_back, args=(unchanged,))
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._tokenizer = PromptTokenizer(path)
        weights = weights_of(initial)
        self._parameters = {name for name, _ in initial.named_parameters()}
        # What is left of it tells how names and shapes on disk differ from those in memory.
        self._architecture = initial.to("meta")
        self.load_weights(weights, version=0)

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
                    # vLLM looks for end tokens in fewer places than the tokenizer here.
                    ignore_eos=True,
                    stop_token_ids=self._stop_token_ids,
                    # vLLM decodes responses after their prompts, some of whose text it gives
                    # back if a character is split into tokens.
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

    @property
    def _stop_token_ids(self) -> list[int]:
        return sorted(self._tokenizer.eos_token_ids)

    def logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """See :meth:`rllib_sea.policy.sampler.Sampler.logprobs`."""
        from vllm import SamplingParams

        outputs = self._llm.generate(
            [{"prompt_token_ids": list(ids)} for ids in token_ids],
            SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False),
            use_tqdm=False,
        )
        return [
            [output.prompt_logprobs[i][ids[i]].logprob for i in range(1, len(ids))]
            for ids, output in zip(token_ids, outputs, strict=True)
        ]

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.load_weights`."""
        missing = sorted(self._parameters.difference(weights))
        unexpected = sorted(set(weights).difference(self._architecture.state_dict()))
        if missing or unexpected:
            raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
        items = list(names_on_disk(self._architecture, weights).items())
        self._llm.collective_rpc(_reload, args=(items,))
        self._forget_prefixes()
        self.policy_version = version

    def rest(self) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.rest`."""
        if not torch.cuda.is_available():
            self._forget_prefixes()
            self._llm.collective_rpc(_discard_cache)
        release_memory()

    def _forget_prefixes(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept prefixes that old weights computed")

    def close(self) -> None:
        """See :meth:`rllib_sea.policy.sampler.Sampler.close`."""
        self._llm.llm_engine.engine_core.shutdown()


def _give_classes_back(
    worker: Any, unchanged: Mapping[type, tuple[tuple[type, ...], Mapping[str, Any]]]
) -> None:
    """Leaves Transformers' classes as they were before the engine.

    Of an architecture that vLLM has no class of its own for, it makes Transformers' one work under
    its compiler: a base and methods are added to the class itself, and this process can then
    neither make another model of it nor call one that it has. They go to a class of the engine's.

    Args:
        worker: Of vLLM.
        unchanged: Bases and attributes by class.
    """
    for cls, (bases, attributes) in unchanged.items():
        if cls.__bases__ == bases:
            continue
        changed = {k: v for k, v in vars(cls).items() if attributes.get(k, cls) is not v}
        added = tuple(base for base in cls.__bases__ if base not in bases)
        cls.__bases__ = bases
        for name in changed:
            if name in attributes:
                setattr(cls, name, attributes[name])
            else:
                delattr(cls, name)
        own = type(cls.__name__, (cls, *added), changed)
        for module in worker.model_runner.get_model().modules():
            if type(module) is cls:
                module.__class__ = own


def _reload(worker: Any, items: list[tuple[str, torch.Tensor]]) -> None:
    """Replaces the weights in a worker of vLLM, and all that it computed from the old ones.

    vLLM processes again what it gets a tensor for. On a CPU that leaves out two things:

    - A tied head shares its weight with the embedding and gets none; multiplied with is a packed
      copy of that weight.
    - Experts are packed when their kernel is made, which is once.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.platforms import current_platform

    modules = list(worker.model_runner.get_model().modules())
    if current_platform.is_cpu():
        for module in modules:
            method: Any = getattr(module, "quant_method", None)
            if getattr(method, "moe_kernel", None) is not None:
                method.moe_kernel = None  # it is made anew, of the new weights
    worker.reload_weights(weights_iterator=iter(items))
    if current_platform.is_cpu():
        for module in modules:
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)


def _discard_cache(worker: Any) -> None:
    """Gives back the pages of a CPU worker's KV cache, of which nothing is wanted any more."""
    for keys_and_values in worker.model_runner.kv_caches:
        storage = keys_and_values.untyped_storage()
        discard(storage.data_ptr(), storage.nbytes())
