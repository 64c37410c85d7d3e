"""The policy's RLModule: back to the initial weights, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rllib_sea.duels.records import SamplingConfig
from rllib_sea.policy.module import VLLMPolicyModule


def started(folder: Path) -> VLLMPolicyModule:
    module = VLLMPolicyModule(
        model_config={
            "model_path": str(folder),
            "sampler": "transformers",
            "sampler_config": {"dtype": "float32", "num_threads": 1},
            "sampling": SamplingConfig(6),
            "max_model_len": 32,
        }
    )
    module.start()
    return module


def greedy(module: VLLMPolicyModule) -> Any:
    return module.forward_inference({"prompt_token_ids": [(5, 6, 7)]})["candidates"]


def test_the_initial_weights_come_back(tiny_policy: Path) -> None:
    module = started(tiny_policy)
    initial = greedy(module)
    weights = load_file(tiny_policy / "model.safetensors")
    torch.manual_seed(0)
    module.set_weights({name: torch.randn_like(w) for name, w in weights.items()}, 3)
    assert module.policy_version == 3
    assert greedy(module) != initial
    module.load_initial_weights()
    assert module.policy_version == 0
    assert greedy(module) == initial
    module.close()


def test_initial_weights_that_are_there_are_not_read_again(
    tiny_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = started(tiny_policy)
    read: list[Path] = []
    monkeypatch.setattr("rllib_sea.policy.module.load_file", read.append)
    module.load_initial_weights()
    assert not read
    module.close()


def test_a_folder_without_safetensors_is_named(tiny_policy: Path, tmp_path: Path) -> None:
    """vLLM takes no weights for no change, and would go on with those it has."""
    module = started(tiny_policy)
    module.set_weights(load_file(tiny_policy / "model.safetensors"), 1)
    module.model_config["model_path"] = str(tmp_path)
    with pytest.raises(RuntimeError, match=r"has no \*\.safetensors"):
        module.load_initial_weights()
    assert module.policy_version == 1
    module.close()
