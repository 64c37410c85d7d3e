"""Env runners whose engine keeps what it has, as vLLM's did with tied heads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch

from rllib_sea.env_runners.duel_env_runner import DuelEnvRunner
from rllib_sea.policy.audit import REHEARSAL_VERSION
from rllib_sea.policy.module import VLLMPolicyModule

KEPT = "model.norm.weight"


class StaleEnvRunner(DuelEnvRunner):
    """Its engine keeps one tensor of its initial weights."""

    versions = range(REHEARSAL_VERSION, 100)

    @cached_property
    def module(self) -> VLLMPolicyModule:
        module = super().module
        load = module.sampler.load_weights

        def keep_one(weights: Mapping[str, torch.Tensor], version: int) -> None:
            if version in self.versions:
                weights = {**weights, KEPT: torch.ones_like(weights[KEPT])}
            load(weights, version)

        module.sampler.load_weights = keep_one
        return module


class LaterStaleEnvRunner(StaleEnvRunner):
    """From the second update on."""

    versions = range(2, 100)
