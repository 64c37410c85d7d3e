"""The samplers' common interface: vLLM and transformers are interchangeable."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from rllib_sea.duels.records import Candidate, SamplingConfig
from text_duel.errors import ConfigError, nearest

SAMPLERS = ("vllm", "transformers")


class Sampler(Protocol):
    """An engine that samples responses.

    Attributes:
        policy_version: Version of the weights it samples from; 0 for the initial ones.
    """

    policy_version: int

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
            n: Responses a prompt.
            sampling: How.
            seeds: B seeds; a prompt's responses depend on its own seed only.

        Returns:
            B lists of n candidates.
        """
        ...

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """Replaces the weights in place.

        Args:
            weights: Tensors by their names in the model's Hugging Face state dictionary.
            version: Their version.
        """
        ...

    def close(self) -> None:
        """Releases the engine."""
        ...


def check_sampler(kind: str) -> None:
    """Checks that a sampler can be made; makes none.

    Raises:
        ConfigError: For an unknown sampler, or where vLLM is missing.
    """
    if kind not in SAMPLERS:
        raise ConfigError(
            f"sampler: {kind!r} is none of {', '.join(SAMPLERS)}{nearest(str(kind), SAMPLERS)}"
        )
    if kind == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            'sampler: vllm is not installed: pip install "rllib-sea[cpu]" (on a machine '
            'without a GPU) or "rllib-sea[cuda]", or set sampler: transformers'
        )


def make_sampler(kind: str, path: Path, max_model_len: int, options: Mapping[str, Any]) -> Sampler:
    """Makes a sampler with the initial weights.

    Args:
        kind: ``"vllm"`` or ``"transformers"``.
        path: The model's folder.
        max_model_len: Longest prompt and response together, in tokens.
        options: The sampler's own arguments.
    """
    check_sampler(kind)
    if kind == "vllm":
        from rllib_sea.policy.vllm_sampler import VLLMSampler

        return VLLMSampler(path, max_model_len, **options)
    from rllib_sea.policy.transformers_sampler import TransformersSampler

    return TransformersSampler(path, **options)
