"""The policy as encoder: shared prompts and padding beside one sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.precision import auto_dtype
from rllib_sea.reward_model.policy_encoder import PolicyEncoder
from tests.helpers.tiny_models import make_tiny_policy

LENGTHS = [(5, (3, 1, 7)), (11, (2, 2, 2)), (1, (4, 6, 5)), (40, (1, 12, 3))]


@pytest.fixture(scope="module")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_policy(tmp_path_factory.mktemp("policies") / "llama")


def duels() -> tuple[list[tuple[int, ...]], list[list[Candidate]]]:
    """Four prompts with three candidates each, all of different lengths."""
    rng = np.random.default_rng(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, 256, count).tolist())

    prompts = [tokens(length) for length, _ in LENGTHS]
    candidates = [
        [Candidate("", tokens(n), (0.0,) * n, "length") for n in lengths] for _, lengths in LENGTHS
    ]
    return prompts, candidates


@torch.no_grad()
def slow_features(
    model: torch.nn.Module, prompt: Sequence[int], response: Sequence[int]
) -> np.ndarray:
    """One sequence, without padding or cache: the normed state that the output embedding reads."""
    seen = []
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][0, -1].float())
    )
    model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False)
    hook.remove()
    return (seen[0] / seen[0].square().mean().sqrt()).numpy()


def check_against_loop(
    folder: Path, tokens_per_batch: int, dtype: torch.dtype, atol: float
) -> None:
    prompts, candidates = duels()
    encoder = PolicyEncoder(folder)
    encoder._tokens_per_batch = tokens_per_batch
    encoder._model.to(dtype)
    features = encoder.encode([""] * 4, prompts, candidates)
    assert features.shape == (4, 3, encoder.dim)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.square(features).mean(axis=2), 1.0, rtol=1e-4)
    # Weights and buffers lose the same bits as the encoder's.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=auto_dtype()).to(dtype).eval()
    for b, prompt in enumerate(prompts):
        for m, candidate in enumerate(candidates[b]):
            slow = slow_features(model, prompt, candidate.token_ids)
            np.testing.assert_allclose(features[b, m], slow, atol=atol)


# One prompt at a time, two batches, and all together.
@pytest.mark.parametrize("tokens_per_batch", [1, 120, 10_000])
def test_features_equal_a_loop_over_sequences(tiny_policy: Path, tokens_per_batch: int) -> None:
    check_against_loop(tiny_policy, tokens_per_batch, torch.float32, 1e-4)


def test_bfloat16_adds_its_rounding_only(tiny_policy: Path) -> None:
    check_against_loop(tiny_policy, 10_000, torch.bfloat16, 0.1)


def test_a_sliding_window_and_a_norm_of_another_kind(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=256,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            sliding_window=8,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        )
    ).save_pretrained(tmp_path)
    for tokens_per_batch in (1, 10_000):
        check_against_loop(tmp_path, tokens_per_batch, torch.float32, 1e-4)


def test_the_same_response_to_another_prompt_has_other_features(tiny_policy: Path) -> None:
    encoder = PolicyEncoder(tiny_policy)
    response = Candidate("", (5, 6, 7), (0.0,) * 3, "length")
    other = Candidate("", (6, 5, 7), (0.0,) * 3, "length")
    features = encoder.encode(["", ""], [(1, 2), (3, 4)], [[response, other], [response, other]])
    assert np.abs(features[0, 0] - features[1, 0]).max() > 0.1
    assert np.abs(features[0, 0] - features[0, 1]).max() > 0.1


def test_on_a_cpu_a_prompts_features_do_not_depend_on_its_company(tiny_policy: Path) -> None:
    """Bit for bit: how many env runners share a round must not change it."""
    prompts, candidates = duels()
    encoder = PolicyEncoder(tiny_policy)
    if encoder._model.device.type != "cpu":
        pytest.skip("batches of prompts are for GPUs")
    together = encoder.encode([""] * 4, prompts, candidates)
    for b in range(4):
        assert np.array_equal(encoder.encode([""], [prompts[b]], [candidates[b]])[0], together[b])


def test_no_prompts_no_features(tiny_policy: Path) -> None:
    assert len(PolicyEncoder(tiny_policy).encode([], [], [])) == 0
