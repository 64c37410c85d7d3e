"""The audit of an engine: what samples is compared, by numbers, with what is trained.

Weights never travel alone. With them comes a probe: fixed tokens, and the log-probabilities that
the policy which was published gives them. An engine that has taken the weights in must give the
same ones, or it samples another policy: its labels would be of one and its training of the other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import torch

from rllib_sea.duels.records import SamplingConfig
from rllib_sea.policy.sampler import Sampler

# Few, since every sync pays for them: any engine that keeps old weights shows it by any token.
NUM_PROBES = 2
PROBE_TOKENS = 24
# Tokens that the engine decodes after each probe: decoding has paths, and captured graphs, that
# reading a prompt does not take.
DECODED_TOKENS = 3
# Positions that an engine needs for the audit; the last one is for the token that it must sample.
AUDIT_POSITIONS = PROBE_TOKENS + DECODED_TOKENS + 1
# Engine and trainer add up in different orders. In float32 that is 1e-6 nats per token on models
# of two layers, 1e-5 on one of thirty; coarser formats round each number that they keep.
FLOOR = 1e-3
ROUNDINGS = 8
# Of weights that an engine is given once, to see that it takes them in; see `rehearsed`.
REHEARSAL_VERSION = -1


@dataclass(frozen=True, slots=True)
class Probe:
    """Fixed tokens, and what the published policy thinks of them.

    Attributes:
        token_ids: P sequences of at least 2 tokens.
        logprobs: For each sequence the log-probabilities of all its tokens but the first, nats.
        dtype: The format in which the trainer computed them.
    """

    token_ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights on their way to the engines.

    Attributes:
        tensors: By their names in the model's state dictionary; of tied weights one name.
        probe: What these weights say of the probe.
    """

    tensors: Mapping[str, torch.Tensor]
    probe: Probe

    def __reduce__(self) -> tuple[Any, ...]:
        """As arrays: those Ray's object store gives to each reader without a copy."""
        arrays = {name: _as_array(tensor) for name, tensor in self.tensors.items()}
        dtypes = {name: tensor.dtype for name, tensor in self.tensors.items()}
        return _of_arrays, (arrays, dtypes, self.probe)


# Formats that NumPy does not have, by one as wide that it has.
_WITHOUT_ARRAYS = {torch.bfloat16: torch.int16}


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    kept = tensor.detach().cpu().contiguous()
    return kept.view(_WITHOUT_ARRAYS.get(kept.dtype, kept.dtype)).numpy()


def _of_arrays(
    arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, torch.dtype], probe: Probe
) -> PublishedWeights:
    with warnings.catch_warnings():
        # The object store's memory is not to be written to, and nobody does.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return PublishedWeights({name: t.view(dtypes[name]) for name, t in tensors.items()}, probe)


class SamplerGapError(RuntimeError):
    """The engine does not sample from the weights that it was given."""


def probe_tokens(
    prompts: Iterable[Sequence[int]], context_length: int
) -> tuple[tuple[int, ...], ...]:
    """Cuts the prompts' tokens, one after another, into probes.

    Args:
        prompts: The tokens of at least one prompt; as many are read as are needed.
        context_length: Positions of the model.

    Returns:
        ``NUM_PROBES`` sequences of ``PROBE_TOKENS`` tokens, fewer if the context is short.
    """
    length = max(2, min(PROBE_TOKENS, context_length - DECODED_TOKENS - 1))
    enough = list(islice(chain.from_iterable(prompts), NUM_PROBES * length))
    tokens = list(islice(cycle(enough), NUM_PROBES * length))
    return tuple(tuple(tokens[i : i + length]) for i in range(0, len(tokens), length))


def tolerance(*dtypes: torch.dtype) -> float:
    """The largest gap, in nats per token, that the formats explain.

    ``max(1e-3, 8 eps)`` of the coarsest: 0.001 for float32, 0.0078 for float16, 0.0625 for bf16.
    Measured: 1e-7 to 6e-5 in float32, 0.005 to 0.015 in bf16 (docs/performance.md).

    Args:
        dtypes: What engine and trainer compute in.
    """
    return max(FLOOR, *(ROUNDINGS * torch.finfo(dtype).eps for dtype in dtypes))


def sampler_gap(sampler: Sampler, probe: Probe) -> float:
    """How far an engine is from the policy that was published.

    Args:
        sampler: The engine.
        probe: What its weights should say.

    Returns:
        Nats per token: the mean absolute difference of the probe's log-probabilities, or, if that
        is larger, of tokens that the engine decodes after the probes between decoding them and
        reading them back. NaN if one of them is not a number.
    """
    sampling = SamplingConfig(DECODED_TOKENS, temperature=0.0)
    rows = sampler.generate(probe.token_ids, 1, sampling, [0] * len(probe.token_ids))
    decoded = [row[0] for row in rows]
    read = sampler.logprobs(
        [
            (*token_ids, *candidate.token_ids)
            for token_ids, candidate in zip(probe.token_ids, decoded, strict=True)
        ]
    )
    ends = [len(token_ids) - 1 for token_ids in probe.token_ids]
    of_probe = [row[:end] for row, end in zip(read, ends, strict=True)]
    of_decoded = [row[end:] for row, end in zip(read, ends, strict=True)]
    gaps = [
        _mean_difference(of_probe, probe.logprobs),
        _mean_difference(of_decoded, [candidate.logprobs for candidate in decoded]),
    ]
    return math.nan if any(map(math.isnan, gaps)) else max(gaps)


def audit(sampler: Sampler, probe: Probe) -> float:
    """Makes sure that an engine samples the policy that was published.

    Args:
        sampler: The engine, which has just taken the weights in.
        probe: What its weights should say.

    Returns:
        The gap, :func:`sampler_gap`.

    Raises:
        SamplerGapError: It is larger than :func:`tolerance`, or not a number.
    """
    gap = sampler_gap(sampler, probe)
    most = tolerance(sampler.dtype, probe.dtype)
    if not gap <= most:
        version = sampler.policy_version
        given = "trial weights" if version == REHEARSAL_VERSION else f"weights of version {version}"
        raise SamplerGapError(
            f"the engine ({type(sampler).__name__}, {sampler.dtype}) does not sample the policy "
            f"that is trained ({probe.dtype}): after it was given {given} their log-probabilities "
            f"differ by {gap:.3g} nats per token, expected at most {most:.3g}; no label was asked "
            "about its responses"
        )
    return gap


def rehearsed(weight: torch.Tensor) -> torch.Tensor:
    """Another tensor in a weight's place: to it a quarter of itself is added, last axis reversed.

    An engine that keeps any of its old tensors shows it by these, before training has moved them
    apart.

    Args:
        weight: Of any shape.
    """
    if not weight.is_floating_point():
        return weight
    return weight + 0.25 * (weight.flip(-1) if weight.dim() else weight)


def _mean_difference(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    differences = [
        abs(a - b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return float(np.mean(differences)) if differences else 0.0
