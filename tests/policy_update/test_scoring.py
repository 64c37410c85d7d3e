"""Scores of responses, beside slow loops, numbers by hand and an enumeration."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from rllib_sea.policy_update.scores import PromptResponses, token_scores
from tests.helpers.preference_pairs import random_pairs, random_prompts

PAIRS = random_pairs(16, seed=1)
PROMPTS = random_prompts(9, seed=2)
LAYOUTS = ["plain", "packed"]


@pytest.fixture
def config(tiny_policy: Path) -> PolicyTrainConfig:
    return PolicyTrainConfig(
        policy_lr=1e-3, lr_schedule="constant", train_precision="fp32", model_path=str(tiny_policy)
    )


def changed(config: PolicyTrainConfig, layout: str = "packed") -> PolicyLearner:
    """A learner whose policy has left its reference."""
    learner = PolicyLearner(config)
    assert learner.layout == "packed"
    learner.layout = layout
    for _ in range(3):
        learner.update(PAIRS)
    return learner


@torch.no_grad()
def next_token_log_probs(model: PreTrainedModel, tokens: Sequence[int]) -> torch.Tensor:
    """(V,) by the model's own logits, in float64, on the CPU."""
    logits = model(input_ids=torch.tensor([list(tokens)], device=model.device)).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1).cpu()


def slow_scores(learner: PolicyLearner, prompts: Sequence[PromptResponses]) -> np.ndarray:
    """(3, S), one token at a time."""
    rows = []
    for prompt in prompts:
        for response in prompt.responses:
            sums = torch.zeros(3, dtype=torch.float64)
            for step, token in enumerate(response):
                prefix = [*prompt.prompt_token_ids, *response[:step]]
                p = next_token_log_probs(learner._policy, prefix)
                q = next_token_log_probs(learner._reference.model, prefix)
                sums += torch.stack([p[token], q[token], (p.exp() * (p - q)).sum()])
            rows.append(sums.numpy())
    return np.array(rows).T


def test_a_next_token_distribution_by_hand() -> None:
    """1/2 ln(2) + 1/4 ln(1/2) + 1/4 ln(1) = 1/4 ln 2; logits may have any offset."""
    p = torch.tensor([[0.5, 0.25, 0.25]]).log() + 3.0
    q = torch.tensor([[0.25, 0.5, 0.25]]).log() - 7.0
    got = token_scores(p, q, torch.tensor([1]))[0].tolist()
    assert got == pytest.approx([math.log(0.25), math.log(0.5), 0.25 * math.log(2)], abs=1e-6)


def test_nearly_equal_distributions_have_no_negative_divergence() -> None:
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(64, 1000, generator=rng)
    q = p + 1e-6 * torch.randn(64, 1000, generator=rng)
    assert (token_scores(p, q, torch.zeros(64, dtype=torch.int64))[:, 2] >= 0).all()
    assert not token_scores(p, p, torch.zeros(64, dtype=torch.int64))[:, 2].any()


def test_extreme_logits_stay_finite() -> None:
    p, q = torch.tensor([[1e4, 0.0, -1e4]]), torch.tensor([[-1e4, 0.0, 1e4]])
    assert token_scores(p, q, torch.tensor([2])).tolist() == [[-2e4, 0.0, 2e4]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_equal_a_slow_loop(config: PolicyTrainConfig, layout: str) -> None:
    learner = changed(config, layout)
    scores = learner.score(PROMPTS)
    expected = slow_scores(learner, PROMPTS)
    got = np.stack([scores.log_probs, scores.reference_log_probs, scores.kl])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.implicit_rewards, expected[0] - expected[1], atol=2e-5)
    assert (scores.kl > 1e-4).all()


def test_the_mean_divergence_is_that_of_sequences(config: PolicyTrainConfig) -> None:
    """KL over all sequences of two tokens, by enumerating them.

    The divergence's sum over a response of two tokens depends on its first token alone:
    its mean is an average over first tokens, by the policy's probability of them.
    """
    learner = changed(config)
    prompt = (5, 6, 7)
    first, reference_first = (
        next_token_log_probs(model, prompt) for model in (learner._policy, learner._reference.model)
    )
    vocabulary = len(first)
    enumerated = 0.0
    for token in range(vocabulary):
        p = first[token] + next_token_log_probs(learner._policy, [*prompt, token])
        q = reference_first[token] + next_token_log_probs(
            learner._reference.model, [*prompt, token]
        )
        enumerated += float((p.exp() * (p - q)).sum())
    scores = learner.score([PromptResponses(prompt, tuple((t, 0) for t in range(vocabulary)))])
    assert float(first.exp().numpy() @ scores.kl) == pytest.approx(enumerated, rel=1e-4)
    assert enumerated > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_before_the_first_step_policy_and_reference_agree_exactly(
    config: PolicyTrainConfig, precision: str, layout: str
) -> None:
    learner = PolicyLearner(dataclasses.replace(config, train_precision=precision))
    learner.layout = layout
    scores = learner.score(PROMPTS)
    assert not scores.kl.any()
    assert not scores.implicit_rewards.any()
    assert (scores.log_probs < 0).all()


def test_the_minibatch_size_changes_nothing(config: PolicyTrainConfig) -> None:
    """Also where a prompt has more responses than one minibatch, and is cut."""
    prompts = [*PROMPTS, PromptResponses((1, 2), tuple((i, i + 1) for i in range(40)))]
    results = []
    for size in (64, 3, 1):
        learner = changed(config)
        learner._responses_at_once = size
        scores = learner.score(prompts)
        results.append(np.stack([scores.log_probs, scores.reference_log_probs, scores.kl]))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-5, atol=1e-5)


def test_bf16_is_near_fp32(config: PolicyTrainConfig) -> None:
    """bf16 has 8 bits: a sum of 12 log-probabilities near -5.6 is off by less than 0.1."""
    results = [
        changed(dataclasses.replace(config, train_precision=precision)).score(PROMPTS)
        for precision in ("fp32", "bf16")
    ]
    for name in ("log_probs", "reference_log_probs"):
        np.testing.assert_allclose(*(getattr(r, name) for r in results), atol=0.1)
    np.testing.assert_allclose(*(r.kl for r in results), rtol=0.1, atol=1e-3)


def test_scoring_leaves_training_as_it_is(config: PolicyTrainConfig) -> None:
    scored, other = PolicyLearner(config), PolicyLearner(config)
    for pairs in (PAIRS[:8], PAIRS[8:]):
        scored.score(PROMPTS)
        assert scored.update(pairs) == other.update(pairs)
    assert scored.version == 2
    assert not any(parameter.grad is not None for parameter in scored._policy.parameters())


def test_scoring_keeps_no_graph(config: PolicyTrainConfig) -> None:
    learner = PolicyLearner(config)
    modes: list[bool] = []
    learner._policy.model.register_forward_hook(
        lambda module, args, output: modes.append(torch.is_grad_enabled())
    )
    learner.score(PROMPTS)
    assert modes
    assert not any(modes)


def test_no_responses_have_no_scores(config: PolicyTrainConfig) -> None:
    assert PolicyLearner(config).score([]).kl.shape == (0,)
