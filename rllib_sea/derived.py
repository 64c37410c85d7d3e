"""What follows from a run's keys: what its parts are built from, and what they take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from rllib_sea.duels.records import SamplingConfig
from rllib_sea.exploration import STRATEGIES
from rllib_sea.exploration.mixing import Gamma
from rllib_sea.exploration.prompt_acquisition import ACQUISITIONS
from rllib_sea.policy.models import resolve_model
from rllib_sea.policy.module import VLLMPolicyModule
from rllib_sea.policy.precision import DTYPE_OF_PRECISION
from rllib_sea.randomness import Stream, generator
from rllib_sea.reward_model.learner import EpistemicRewardLearner
from rllib_sea.reward_model.module import EpistemicRewardModel
from rllib_sea.settings.groups import Keys


class DerivedSettings(AlgorithmConfig, Keys):
    """A base of :class:`rllib_sea.config.SEAConfig`; its keys are checked there."""

    @property
    def num_reference_candidates(self) -> int:
        """How many of the M candidates are sampled from the reference policy."""
        strategy = STRATEGIES[self.exploration_strategy]
        return self.num_candidates // 2 if strategy.reference_candidates else 0

    @property
    def needs_implicit_rewards(self) -> bool:
        """Whether candidates are scored by policy and reference policy."""
        acquisition = self.prompt_acquisition
        return STRATEGIES[self.exploration_strategy].needs_implicit_rewards or (
            acquisition is not None and ACQUISITIONS[acquisition].needs_implicit_rewards
        )

    @property
    def always_asks(self) -> str | None:
        """The choice with which no pair can be the ERM's, if there is one."""
        strategy = STRATEGIES[self.exploration_strategy]
        choices = {
            f"exploration_strategy {self.exploration_strategy}": strategy.reference_candidates,
            f"prompt_acquisition {self.prompt_acquisition}": self.prompt_acquisition is not None,
            "update_policy false": not self.update_policy,
        }
        return next((choice for choice, given in choices.items() if given), None)

    @property
    def mixture(self) -> Gamma:
        """The mixture ratio: ``gamma``, or what it is if none is given."""
        if self.gamma is not None:
            return self.gamma
        if self.always_asks:
            return 1.0
        # Before, the ERM can hardly tell best from worst.
        warm_up = 2 * self.prompts_per_round
        return [[0, 1.0], [warm_up - 1, 1.0], [warm_up, 0.5]]

    @property
    def samples_on_gpu(self) -> bool:
        """Whether engines have GPUs; this process may see none of them."""
        return self.num_gpus_per_env_runner > 0 or torch.cuda.is_available()

    @property
    def threads_per_env_runner(self) -> int:
        """Torch threads of an env runner."""
        return self.num_threads or _num_cores()

    @property
    def threads_per_train_worker(self) -> int:
        """Torch threads of a training worker; those of one machine share its cores."""
        return self.num_threads or max(1, _num_cores() // max(1, self.num_train_workers))

    def policy_model_path(self) -> Path:
        """The policy's local folder; dequantises or downloads it on first use."""
        return resolve_model(self.policy_model)

    def sampling_config(self) -> SamplingConfig:
        """How training responses are sampled."""
        return SamplingConfig(self.max_new_tokens, self.temperature, self.top_p)

    def policy_module_spec(self, max_model_len: int) -> RLModuleSpec:
        """What an env runner builds its policy from.

        Args:
            max_model_len: Longest prompt and response together, in tokens.
        """
        return RLModuleSpec(
            module_class=VLLMPolicyModule,
            model_config={
                "max_model_len": max_model_len,
                "model_path": str(self.policy_model_path()),
                "sampler": self.sampler,
                "sampler_config": {
                    "num_threads": self.threads_per_env_runner,
                    "dtype": DTYPE_OF_PRECISION[self.train_precision],
                    **self.sampler_config,
                },
                "sampling": self.sampling_config(),
            },
        )

    def total_cpus(self) -> float:
        """Logical CPUs of one run, its Ray Train workers included.

        What is done in the Algorithm's own process takes what a process of its own would.
        """
        workers = max(1, self.num_train_workers) if self.update_policy else 0
        return (
            self.num_cpus_for_main_process
            + max(1, self.num_env_runners) * self.num_cpus_per_env_runner
            + self.num_learners * self.num_cpus_per_learner
            + workers * self.num_cpus_per_train_worker
        )

    def total_gpus(self) -> float:
        """GPUs of one run, its Ray Train workers included."""
        return (
            self.num_gpus_for_labeller
            + self.num_env_runners * self.num_gpus_per_env_runner
            + max(1, self.num_learners) * self.num_gpus_per_learner
            + (self.num_train_workers * self.num_gpus_per_train_worker if self.update_policy else 0)
        )

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type[EpistemicRewardLearner]:
        return EpistemicRewardLearner

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(
            module_class=EpistemicRewardModel,
            model_config={
                "num_members": self.ensemble_size,
                "hidden": list(self.erm_hidden),
                "prior_scale": self.erm_prior_scale,
                "prior_hidden": list(self.erm_prior_hidden),
                "seed": int(generator(self.seed, 0, 0, Stream.ERM_INIT).integers(2**31)),
            },
        )

    @override(AlgorithmConfig)
    def build_env_to_module_connector(self, *args: Any, **kwargs: Any) -> None:
        """None: texts go to the policy's tokenizer, not through RLlib's connectors."""

    @override(AlgorithmConfig)
    def build_module_to_env_connector(self, *args: Any, **kwargs: Any) -> None:
        """None: responses reach the environment as they are."""

    @override(AlgorithmConfig)
    def build_learner_connector(self, *args: Any, **kwargs: Any) -> None:
        """None: the learner gets finished batches of features."""

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))
