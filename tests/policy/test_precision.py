"""`auto` is bf16 where the hardware multiplies in it, and float32 elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rllib_sea import SEAConfig
from rllib_sea.policy.precision import AUTO, DTYPES, resolve_dtype
from rllib_sea.policy.transformers_sampler import TransformersSampler
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from tests.helpers.preference_pairs import random_pairs

HARDWARE = {True: (torch.bfloat16, "bf16"), False: (torch.float32, "fp32")}


@pytest.fixture(params=HARDWARE)
def hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A CPU with or without bf16."""
    has_bf16: bool = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    return has_bf16


def test_every_name_is_a_format() -> None:
    assert {resolve_dtype(name) for name in DTYPES if name != AUTO} == {
        torch.float32,
        torch.bfloat16,
        torch.float16,
    }
    # This machine's own answer.
    assert resolve_dtype(AUTO) in (torch.bfloat16, torch.float32)


def test_an_engine_takes_the_format_of_its_hardware(hardware: bool, tiny_policy: Path) -> None:
    dtype, _ = HARDWARE[hardware]
    assert resolve_dtype(AUTO) == dtype
    assert TransformersSampler(tiny_policy)._model.dtype == dtype
    assert TransformersSampler(tiny_policy, dtype="float32")._model.dtype == torch.float32


@pytest.mark.parametrize(
    ("train_precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), (AUTO, AUTO)]
)
def test_an_engine_has_the_format_of_training_unless_told_otherwise(
    train_precision: str, dtype: str, tiny_policy: Path
) -> None:
    config = SEAConfig().policy(policy_model=str(tiny_policy))
    config.preference_learning(train_precision=train_precision)
    assert config.policy_module_spec(64).model_config["sampler_config"]["dtype"] == dtype
    config.policy(sampler_config={"dtype": "float16"})
    assert config.policy_module_spec(64).model_config["sampler_config"]["dtype"] == "float16"


def test_training_takes_the_precision_of_its_hardware(hardware: bool, tiny_policy: Path) -> None:
    _, precision = HARDWARE[hardware]
    losses = {}
    for name in (AUTO, "bf16", "fp32"):
        config = PolicyTrainConfig(
            model_path=str(tiny_policy),
            policy_lr=1e-3,
            lr_schedule="constant",
            train_precision=name,
        )
        learner = PolicyLearner(config)
        learner.update(random_pairs(4))
        losses[name] = learner.update(random_pairs(4))["loss"]
    assert losses[AUTO] == losses[precision]
    assert losses["bf16"] != losses["fp32"]
