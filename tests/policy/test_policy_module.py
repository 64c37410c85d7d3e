"""The policy's RLModule: weights come with their probe, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_sea.duels.records import SamplingConfig
from rllib_sea.policy.audit import SamplerGapError, probe_tokens
from rllib_sea.policy.module import VLLMPolicyModule
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner


@pytest.fixture
def module(tiny_policy: Path) -> Iterator[VLLMPolicyModule]:
    module = VLLMPolicyModule(
        model_config={
            "model_path": str(tiny_policy),
            "sampler": "transformers",
            "sampler_config": {"dtype": "float32", "num_threads": 1},
            "sampling": SamplingConfig(6),
            "max_model_len": 64,
        }
    )
    module.start()
    yield module
    module.close()


@pytest.fixture
def learner(tiny_policy: Path) -> PolicyLearner:
    probes = probe_tokens([tuple(range(200))], 1024)
    return PolicyLearner(
        PolicyTrainConfig(train_precision="fp32", model_path=str(tiny_policy), probes=probes)
    )


def greedy(module: VLLMPolicyModule) -> Any:
    return module.forward_inference({"prompt_token_ids": [(5, 6, 7)]})["candidates"]


def test_the_initial_weights_come_back(module: VLLMPolicyModule, learner: PolicyLearner) -> None:
    initial = greedy(module)
    assert module.set_weights(learner.weights("rehearsal"), 3) < 1e-5
    assert module.policy_version == 3
    assert greedy(module) != initial
    assert module.set_weights(learner.weights("initial"), 0) < 1e-5
    assert module.policy_version == 0
    assert greedy(module) == initial


def test_weights_without_their_own_probe_are_refused(
    module: VLLMPolicyModule, learner: PolicyLearner
) -> None:
    """As of an engine that was given new weights and went on with those it had."""
    stale = dataclasses.replace(
        learner.weights("rehearsal"), tensors=learner.weights("initial").tensors
    )
    with pytest.raises(SamplerGapError) as wrong:
        module.set_weights(stale, 4)
    assert str(wrong.value).startswith(
        "the engine (TransformersSampler, torch.float32) does not sample the policy that is "
        "trained (torch.float32): after it was given weights of version 4 their log-probabilities "
        "differ by "
    )
    assert "expected at most 0.001" in str(wrong.value)
