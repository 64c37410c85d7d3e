"""The samplers' common interface: vLLM and transformers are interchangeable."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.policy.precision import AUTO, DTYPES
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError

SAMPLERS = ("vllm", "transformers")


class Sampler(Protocol):
    """An engine that samples responses.

    Attributes:
        policy_version: Version of the weights it samples from; 0 for the initial ones.
        dtype: What it computes in.
    """

    policy_version: int
    dtype: torch.dtype

    def generate(
        self,
        prompt_token_ids: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seeds: Sequence[int],
    ) -> list[list[Candidate]]:
        """Samples responses.

        Args:
            prompt_token_ids: B prompts.
            n: Responses per prompt.
            sampling: How.
            seeds: B seeds; a prompt's responses depend on its own seed only.

        Returns:
            B lists of n candidates.
        """
        ...

    def logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """What the engine thinks of given tokens.

        Args:
            token_ids: Sequences of at least 2 tokens, shorter than the engine's positions.

        Returns:
            For each sequence the log-probabilities of all its tokens but the first, in nats.
        """
        ...

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """Replaces the weights in place.

        Args:
            weights: Tensors by their names in the state dictionary of the model as Transformers
                has it in memory; of tied weights one name is enough.
            version: Their version.

        Raises:
            ValueError: They are another model's.
        """
        ...

    def rest(self) -> None:
        """Gives back the memory that it needs only while it samples."""
        ...

    def close(self) -> None:
        """Releases the engine."""
        ...


def check_sampler(kind: str, options: Mapping[str, Any]) -> None:
    """Checks that a sampler can be made; makes none.

    Args:
        kind: ``"vllm"`` or ``"transformers"``.
        options: The sampler's own arguments (``sampler_config``).

    Raises:
        ConfigError: For an unknown sampler or option, a bad value, or if vLLM is missing.
    """
    check.check_choice("sampler", kind, SAMPLERS)
    if kind == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            'sampler: vllm is not installed: pip install "rllib-sea[cpu]" (on a machine '
            'without a GPU) or "rllib-sea[cuda]", or set sampler: transformers'
        )
    check.check_options("sampler_config", options, _sampler_class(kind), _check_values)


def _check_values(
    *,
    dtype: str = AUTO,
    enforce_eager: bool = True,
    gpu_memory_utilization: float = 1.0,
    kv_cache_gib: float = 0.5,
    num_threads: int | None = None,
    **counts: int,
) -> None:
    """Checks the samplers' options; all others are counts."""
    check.check_choice("sampler_config.dtype", dtype, DTYPES)
    check.check_bool("sampler_config.enforce_eager", enforce_eager)
    check.check_number(
        "sampler_config.gpu_memory_utilization", gpu_memory_utilization, 0.0, 1.0, open_low=True
    )
    check.check_number("sampler_config.kv_cache_gib", kv_cache_gib, 0.0, open_low=True)
    if num_threads is not None:
        counts["num_threads"] = num_threads
    for name, value in counts.items():
        check.check_int(f"sampler_config.{name}", value, 1)


def check_sampled_model(kind: str, model: PreTrainedModel, *, on_gpu: bool) -> None:
    """Checks that a sampler samples from a model; starts none.

    Args:
        kind: ``"vllm"`` or ``"transformers"``.
        model: As Transformers has it; its tensors may be on ``meta``.
        on_gpu: Whether the sampler will have a GPU.

    Raises:
        ConfigError: It does not.
    """
    if kind == "vllm":
        from rllib_sea.policy.vllm_sampler import check_vllm_model

        check_vllm_model(model, on_gpu=on_gpu)


def make_sampler(kind: str, path: Path, max_model_len: int, options: Mapping[str, Any]) -> Sampler:
    """Makes a sampler with the initial weights.

    Args:
        kind: ``"vllm"`` or ``"transformers"``.
        path: The model's folder.
        max_model_len: Longest prompt and response together, in tokens.
        options: The sampler's own arguments.
    """
    check_sampler(kind, options)
    arguments = {"max_model_len": max_model_len} if kind == "vllm" else {}
    sampler: Sampler = _sampler_class(kind)(path, **arguments, **options)
    return sampler


def _sampler_class(kind: str) -> type[Any]:
    """Its module is imported where it is needed; the module of vLLM imports no vLLM."""
    if kind == "vllm":
        from rllib_sea.policy.vllm_sampler import VLLMSampler

        return VLLMSampler
    from rllib_sea.policy.transformers_sampler import TransformersSampler

    return TransformersSampler
