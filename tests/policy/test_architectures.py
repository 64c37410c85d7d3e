"""Each architecture: checked, sampled from, trained for a step, audited, as in a round.

`test_weight_sync.py` has some of them in vLLM, too, `python -m benchmarks.architectures` all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.policy.audit import audit
from rllib_sea.policy.model_folder import check_policy_folder, load_policy
from rllib_sea.policy.sampler import check_sampled_model, make_sampler
from rllib_sea.policy.vllm_sampler import NOT_ON_CPU
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from rllib_sea.reward_model import policy_encoder
from rllib_sea.reward_model.policy_encoder import PolicyEncoder
from tests.helpers.model_families import CONFIGS, make_family
from tests.helpers.preference_pairs import random_pairs
from text_duel.errors import ConfigError

PROMPTS = [tuple(range(5, 17)), (30, 31, 32)]
PROBES = (tuple(range(1, 25)), tuple(range(40, 64)))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_round(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_family(name, tmp_path / "model")
    check_policy_folder(folder)
    sampler = make_sampler("transformers", folder, 64, {"dtype": "float32", "num_threads": 1})
    rows = sampler.generate(PROMPTS, 3, SamplingConfig(6, temperature=1.0), [1, 2])
    # What it says that it sampled with is what it thinks of the whole sequence, without padding.
    for prompt, row in zip(PROMPTS, rows, strict=True):
        for candidate in row:
            (read,) = sampler.logprobs([(*prompt, *candidate.token_ids)])
            np.testing.assert_allclose(candidate.logprobs, read[len(prompt) - 1 :], atol=1e-4)
    config = PolicyTrainConfig(
        policy_lr=3e-3, train_precision="fp32", model_path=str(folder), probes=PROBES
    )
    learner = PolicyLearner(config)
    assert learner.update(random_pairs(4, seed=0))["loss"] == pytest.approx(np.log(2))
    for version, which in enumerate(("rehearsal", "trained"), 1):
        published = learner.weights(which)
        sampler.load_weights(published.tensors, version)
        assert audit(sampler, published.probe) < 1e-4
    monkeypatch.setattr(policy_encoder, "auto_dtype", lambda: torch.float32)
    features = PolicyEncoder(folder).encode(["", ""], PROMPTS, rows)
    expected = slow_features(load_policy(folder, torch.float32), rows)
    np.testing.assert_allclose(features, expected, atol=1e-3)


NOT_IN_VLLM = {
    "phi": "it leaves out the bias of its output embedding",
    "gpt_neo": "it has no class for it",
    "mpt": "it has no class for it",
    **NOT_ON_CPU,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_vllm_does_not_sample_from_is_refused_before_it_starts(name: str) -> None:
    """What docs/models.md says of each; by what vLLM says of itself, where it says it."""
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]())
    check_sampled_model("transformers", model, on_gpu=False)
    if name in NOT_ON_CPU:
        check_sampled_model("vllm", model, on_gpu=True)
    if name not in NOT_IN_VLLM:
        check_sampled_model("vllm", model, on_gpu=False)
        return
    with pytest.raises(ConfigError, match=rf"^policy_model: vLLM does not .*: {NOT_IN_VLLM[name]}"):
        check_sampled_model("vllm", model, on_gpu=False)


def slow_features(
    model: transformers.PreTrainedModel, rows: Sequence[Sequence[Candidate]]
) -> list[list[np.ndarray]]:
    """What the output embedding reads at responses' last tokens, of root mean square 1."""
    read: list[torch.Tensor] = []
    model.get_output_embeddings().register_forward_pre_hook(lambda head, args: read.append(args[0]))

    def of(prompt: Sequence[int], response: Candidate) -> np.ndarray:
        with torch.no_grad():
            model(torch.tensor([[*prompt, *response.token_ids]]), use_cache=False)
        last = read[-1][0, -1]
        return (last / last.square().mean().sqrt()).numpy()

    return [[of(prompt, one) for one in row] for prompt, row in zip(PROMPTS, rows, strict=True)]
