"""The audit's arithmetic, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.audit import (
    DECODED_TOKENS,
    NUM_PROBES,
    PROBE_TOKENS,
    Probe,
    SamplerGapError,
    audit,
    probe_tokens,
    rehearsed,
    sampler_gap,
    tolerance,
)


class FakeEngine:
    """Gives every token one log-probability when it reads it, one when it decodes it."""

    dtype = torch.float32
    policy_version = 5

    def __init__(self, read: float, decoded: float) -> None:
        self.read = read
        self.decoded = decoded

    def generate(self, prompts: Sequence[Sequence[int]], n: int, sampling, seeds):
        assert (n, sampling.temperature, len(seeds)) == (1, 0.0, len(prompts))
        tokens = tuple(range(sampling.max_new_tokens))
        return [[Candidate("", tokens, (self.decoded,) * len(tokens), "length")] for _ in prompts]

    def logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[self.read] * (len(ids) - 1) for ids in token_ids]


PROBE = Probe(((1, 2, 3), (4, 5)), ((-1.0, -2.0), (-3.0,)), torch.float32)


def test_the_gap_is_the_mean_absolute_difference() -> None:
    # |-2 - -1| + |-2 - -2| + |-2 - -3| over three tokens.
    assert sampler_gap(FakeEngine(-2.0, -2.0), PROBE) == pytest.approx(2 / 3)
    # Decoding and reading differ by more than reading and training.
    assert sampler_gap(FakeEngine(-2.0, -3.5), PROBE) == pytest.approx(1.5)


def test_a_gap_that_is_no_number_is_refused() -> None:
    for engine in (FakeEngine(math.nan, -1.0), FakeEngine(-1.0, math.nan)):
        assert math.isnan(sampler_gap(engine, PROBE))
        with pytest.raises(SamplerGapError, match=r"version 5 .* differ by nan nats"):
            audit(engine, PROBE)


def test_the_tolerance_is_that_of_the_coarser_format() -> None:
    assert tolerance(torch.float32, torch.float32) == 1e-3
    assert tolerance(torch.float32, torch.float16) == pytest.approx(8 / 1024)
    assert tolerance(torch.bfloat16, torch.float32) == pytest.approx(8 / 128)
    same = Probe(((1, 2),), ((-1.0,),), torch.float32)
    assert audit(FakeEngine(-1.0009, -1.0009), same) == pytest.approx(0.0009)
    with pytest.raises(
        SamplerGapError, match=r"by 0\.0011 nats per token, expected at most 0\.001"
    ):
        audit(FakeEngine(-1.0011, -1.0011), same)


def test_probes_are_cut_from_the_prompts() -> None:
    probes = probe_tokens([(1, 2, 3), (4, 5)], 1000)
    assert len(probes) == NUM_PROBES
    assert {len(probe) for probe in probes} == {PROBE_TOKENS}
    assert sum(probes, ()) == (1, 2, 3, 4, 5) * 9 + (1, 2, 3)
    # A short context has room for the probe, what is decoded after it, and one token more.
    assert {len(probe) for probe in probe_tokens([(1, 2)], 20)} == {20 - DECODED_TOKENS - 1}

    def endless():
        yield tuple(range(40))
        yield tuple(range(40))
        raise AssertionError("more prompts were read than are needed")

    assert probe_tokens(endless(), 1000)[1] == tuple(i % 40 for i in range(24, 48))


def test_a_rehearsal_changes_every_tensor() -> None:
    assert rehearsed(torch.tensor([1.0, 2.0, 4.0])).tolist() == [2.0, 2.5, 4.25]
    assert rehearsed(torch.tensor([[0.0, 4.0]])).tolist() == [[1.0, 4.0]]
    assert rehearsed(torch.tensor(2.0)).item() == 2.5
    assert rehearsed(torch.tensor([3])).tolist() == [3]
