"""Log-probabilities of responses, beside the model's own logits, one sequence at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from rllib_sea.policy_update.batching import ResponseBatch, collate
from rllib_sea.policy_update.logprobs import (
    ResponseLogits,
    choose_layout,
    response_log_probs,
    slow_log_probs,
)
from rllib_sea.policy_update.scores import PromptResponses
from tests.helpers.model_families import CONFIGS
from tests.helpers.preference_pairs import random_prompts

SIZES = {
    "vocab_size": 261,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LAYOUTS = ["plain", "packed"]
# fp32 sums of up to 12 log-probabilities near -5.6.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def llama(tiny_policy: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32).eval()


def log_probs(model: PreTrainedModel, prompts: list[PromptResponses], layout: str) -> torch.Tensor:
    return scored(ResponseLogits(model), collate(prompts, layout))


def scored(scorer: ResponseLogits, batch: ResponseBatch) -> torch.Tensor:
    return response_log_probs(scorer(batch), batch)


def gradients(model: PreTrainedModel, layout: str, seed: int) -> dict[str, torch.Tensor]:
    sums = log_probs(model, random_prompts(5, seed=seed), layout)
    model.zero_grad()
    (sums * torch.randn(len(sums), generator=torch.Generator().manual_seed(0))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_the_models_own_logits(llama: PreTrainedModel, layout: str) -> None:
    prompts = random_prompts(8, seed=1)
    with torch.no_grad():
        got = log_probs(llama, prompts, layout)
    torch.testing.assert_close(got, slow_log_probs(llama, prompts), **CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_rows_responses_and_padding_change_nothing(
    llama: PreTrainedModel, layout: str
) -> None:
    prompts = random_prompts(8, seed=2)
    alone = [PromptResponses(p.prompt_token_ids, (r,)) for p in prompts for r in p.responses]
    with torch.no_grad():
        together = log_probs(llama, prompts, layout)
        each = torch.cat([log_probs(llama, [one], layout) for one in alone])
    torch.testing.assert_close(together, each, **CLOSE)


def test_gradients_of_both_layouts_are_the_same(llama: PreTrainedModel) -> None:
    plain, packed = (gradients(llama, layout, seed=3) for layout in LAYOUTS)
    assert plain.keys() == packed.keys() == dict(llama.named_parameters()).keys()
    for name, gradient in plain.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(packed[name], gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bf16_is_what_autocast_around_it_gives(llama: PreTrainedModel, layout: str) -> None:
    batch = collate(random_prompts(4, seed=4), layout)
    with torch.no_grad():
        inside = scored(ResponseLogits(llama, bf16=True), batch)
        with torch.autocast("cpu", torch.bfloat16):
            around = scored(ResponseLogits(llama), batch)
        full = scored(ResponseLogits(llama), batch)
    assert torch.equal(inside, around)
    assert not torch.equal(inside, full)
    # bf16 has 8 bits: a logit near 1 is off by up to 4e-3, a sum of 12 by less than 0.05.
    torch.testing.assert_close(inside, full, rtol=0, atol=5e-2)


def test_llama_is_packed(llama: PreTrainedModel) -> None:
    assert choose_layout(llama) == "packed"


def test_pythias_architecture_is_packed() -> None:
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, max_position_embeddings=128)).eval()
    assert choose_layout(model) == "packed"
    prompts = random_prompts(4, seed=5)
    with torch.no_grad():
        got = log_probs(model, prompts, "packed")
    torch.testing.assert_close(got, slow_log_probs(model, prompts), **CLOSE)


def test_a_sliding_window_is_plain() -> None:
    torch.manual_seed(0)
    config = MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=8)
    model = MistralForCausalLM(config).eval()
    assert choose_layout(model) == "plain"
    prompts = random_prompts(4, seed=6)  # longer than the window
    with torch.no_grad():
        got = log_probs(model, prompts, "plain")
    torch.testing.assert_close(got, slow_log_probs(model, prompts), **CLOSE)


CHANGED = {
    "gemma2": "final_logit_softcapping",
    "cohere": "logit_scale",
    "granite": "logits_scaling",
}


@pytest.mark.parametrize("family", CHANGED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_that_the_model_changes_are_its_own(family: str, layout: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()
    head = model.get_output_embeddings()
    torch.nn.init.normal_(head.weight, std=5.0)  # a soft cap shows in large logits only
    prompts = random_prompts(4, seed=7)
    with torch.no_grad():
        got = log_probs(model, prompts, layout)
        torch.testing.assert_close(got, slow_log_probs(model, prompts), rtol=1e-4, atol=1e-3)
        # Without the change they would be others.
        setattr(model.config, CHANGED[family], None if family == "gemma2" else 1.0)
        if family == "cohere":
            model.logit_scale = 1.0
        assert (log_probs(model, prompts, layout) - got).abs().min() > 0.1


@pytest.mark.parametrize("family", ["gpt_neo", "lfm2", "falcon_h1", "mamba", "llama4"])
def test_what_does_not_heed_a_mask_of_ones_own_is_plain(family: str) -> None:
    """A window, a convolution or a recurrence over the row: packed would be another model."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()
    assert choose_layout(model) == "plain"
