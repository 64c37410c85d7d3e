"""SEA, sample-efficient alignment, as an RLlib algorithm (arXiv 2411.01493).

The Algorithm owns four things and moves data between them:

    env runners         the policy's engine, the ERM's encoder, the environment's oracle
    learner group       the epistemic reward model (ERM)
    policy trainer      the long-lived Ray Train run that updates the policy
    replay              the oracle's labels

`SEA.training_step` is the paper's Algorithm 2, one round a call.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_LEARNER,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.util.debug import log_once

import text_duel
from rllib_sea import config_checks as check
from rllib_sea.duels.records import Duel, PreferencePair, SamplingConfig
from rllib_sea.duels.rounds import EvaluatedResponse, Failure, RoundShare, RoundTask
from rllib_sea.duels.samples import append_duels, append_responses
from rllib_sea.evaluation import evaluate
from rllib_sea.exploration import STRATEGIES
from rllib_sea.metrics import DashboardMetrics, duel_metrics, reward_model_metrics
from rllib_sea.policy.models import check_model, resolve_model
from rllib_sea.policy.sampler import check_sampler
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_trainer import PolicyTrainer
from rllib_sea.preference_learning.config import PolicyTrainConfig
from rllib_sea.preference_learning.learner import NonFiniteUpdateError
from rllib_sea.preference_learning.mixing import Gamma, draw_synthetic, gamma_at
from rllib_sea.randomness import Stream, generator, generators, prompt_order
from rllib_sea.reward_model.encoder import check_encoder
from rllib_sea.reward_model.ensemble import regularisation_strength
from rllib_sea.reward_model.learner import EpistemicRewardLearner
from rllib_sea.reward_model.module import (
    CHOSEN_FEATURES,
    REJECTED_FEATURES,
    STRENGTH,
    EpistemicRewardModel,
)
from rllib_sea.reward_model.replay import PreferenceReplay
from rllib_sea.runner import DuelEnvRunner
from text_duel.errors import ConfigError, nearest

# RLlib's keys that mean nothing to SEA, and what to set instead.
UNUSED_RLLIB_KEYS = {
    "lr": "policy_lr or erm_lr",
    "train_batch_size": "prompts_per_round",
    "train_batch_size_per_learner": "erm_minibatch_size",
    "minibatch_size": "policy_minibatch_size or erm_minibatch_size",
    "num_epochs": "erm_minibatches",
    "model": "policy_model",
    "lambda": "erm_lambda",
    "num_workers": "num_env_runners",
    "evaluation_duration": "evaluation_num_prompts",
    "evaluation_num_env_runners": "num_env_runners (they evaluate, too)",
}


class SEAConfig(AlgorithmConfig):
    """Defines a configuration from which a SEA Algorithm can be built.

    The defaults are the paper's where it gives them, at the scale of a CPU machine:
    `tuned_examples/` has the recipes.

    .. code-block:: python

        from rllib_sea import SEAConfig

        config = (
            SEAConfig()
            .environment("text_duel/TLDR-v0", env_config={"prompts": "tldr_mini"})
            .policy(policy_model="smollm2-135m-instruct")
            .duels(query_budget=256, gamma=0.7)
        )
        algo = config.build_algo()
        algo.train()
    """

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or SEA)

        # fmt: off
        # `policy()`
        # A local folder, a name on the hub, or the bundled `smollm2-135m-instruct`.
        self.policy_model = "smollm2-135m-instruct"
        # `vllm` or `transformers`.
        self.sampler = "vllm"
        # Options of the sampler's engine; see docs/configuration.md.
        self.sampler_config: dict[str, Any] = {}
        # Wrap prompts in the model's chat template. None: where the model has one.
        self.chat_template: bool | None = None
        self.max_new_tokens = 53
        self.temperature = 0.7
        self.top_p = 1.0

        # `duels()`
        # b of Algorithm 2.
        self.prompts_per_round = 128
        # M of Algorithm 2.
        self.num_candidates = 20
        # Labels that may be asked for; the run ends when they are used. None: no end.
        self.query_budget: int | None = None
        self.exploration_strategy = "bai_ts"
        # The mixture ratio: a number, or a schedule over queries. (RLlib's discount
        # factor of the same name has no meaning in a bandit.)
        self.gamma: Gamma = 1.0
        # `selected_pair` (Algorithm 2) or `best_vs_worst` (the authors' code).
        self.synthetic_pair = "selected_pair"
        # Compare duelled responses with the references (evaluation questions).
        self.measure_online_win_rate = True

        # `reward_model()`
        # `minilm`, or any Hugging Face encoder by folder or name.
        self.erm_encoder = "minilm"
        # K of Algorithm 2.
        self.ensemble_size = 20
        self.erm_hidden = [128, 128]
        self.erm_lr = 1e-3
        self.erm_weight_decay = 5e-5
        # lambda of Eq. 8.
        self.erm_lambda = 0.5
        # Scale lambda by erm_minibatch_size / num_oracle_queries.
        self.erm_lambda_fades = True
        # m of Algorithm 2.
        self.erm_minibatches = 5
        self.erm_minibatch_size = 128

        # `preference_learning()`
        # `dpo`, `ipo` or `slic`.
        self.loss = "dpo"
        self.beta = 0.1
        self.policy_lr = 5e-7
        self.policy_betas = (0.9, 0.95)
        self.policy_weight_decay = 0.0
        # `cosine` (to 10%) or `constant`, after `warmup_ratio` of all rounds.
        self.lr_schedule = "cosine"
        self.warmup_ratio = 0.02
        self.max_grad_norm = 1.0
        # Pairs in one forward pass of one worker; never changes the result.
        self.policy_minibatch_size = 8
        # `bf16` (autocast over fp32 weights) or `fp32`.
        self.train_precision = "bf16"
        # `ddp` or `deepspeed`.
        self.train_strategy = "ddp"
        self.zero_stage = 2
        self.num_train_workers = 1
        self.num_cpus_per_train_worker: float = 1
        self.num_gpus_per_train_worker: float = 0
        # How often a dead training worker is replaced.
        self.max_train_failures = 3

        # `evaluation()`
        self.evaluation_split = "test"
        self.evaluation_num_prompts: int | None = None

        # `resources()`: torch threads; None: all cores of the machine.
        self.num_threads: int | None = None
        # fmt: on

        # RLlib's own defaults that differ for SEA.
        self.env = "text_duel/TLDR-v0"
        self.seed = 0
        self.env_runner_cls = DuelEnvRunner
        self.num_env_runners = 1
        # The stages of a round take turns, so they share the cores: on 2 cores a run
        # asks for 2 logical CPUs (0.5 + 0.5 + 1), and each stage computes on both.
        self.num_cpus_for_main_process = 0.5
        self.num_cpus_per_env_runner = 0.5
        self.num_cpus_per_learner = 0
        self.num_gpus_per_learner = 0
        # A local env runner would start an engine in the driver's process.
        self.create_local_env_runner = False
        # Env runners keep no state that RLlib could merge and broadcast.
        self._dont_auto_sync_env_runner_states = True
        # A round with a large model takes longer than RLlib's 60 s.
        self.sample_timeout_s = 3600.0
        self.evaluation_interval = 4
        self.custom_evaluation_function = evaluate

    # -- Groups -----------------------------------------------------------------------

    def policy(
        self,
        *,
        policy_model: str = NotProvided,
        sampler: str = NotProvided,
        sampler_config: dict[str, Any] = NotProvided,
        chat_template: bool | None = NotProvided,
        max_new_tokens: int = NotProvided,
        temperature: float = NotProvided,
        top_p: float = NotProvided,
    ) -> SEAConfig:
        """Sets the language model and how it is sampled.

        Args:
            policy_model: A local folder, a name on the Hugging Face hub, or the bundled
                ``smollm2-135m-instruct``.
            sampler: ``"vllm"`` or ``"transformers"``.
            sampler_config: Options of the sampler's engine.
            chat_template: Whether prompts are wrapped in the model's chat template; None
                does so where the model has one.
            max_new_tokens: Longest response in tokens.
            temperature: Of training responses; evaluation decodes greedily.
            top_p: Nucleus mass.
        """
        return self._set(locals())

    def duels(
        self,
        *,
        prompts_per_round: int = NotProvided,
        num_candidates: int = NotProvided,
        query_budget: int | None = NotProvided,
        exploration_strategy: str = NotProvided,
        gamma: Gamma = NotProvided,
        synthetic_pair: str = NotProvided,
        measure_online_win_rate: bool = NotProvided,
    ) -> SEAConfig:
        """Sets which responses are put to the oracle, and how many.

        Args:
            prompts_per_round: b, prompts of one round.
            num_candidates: M, responses sampled per prompt, at least 2.
            query_budget: Labels after which the run ends; never exceeded.
            exploration_strategy: A name of :data:`rllib_sea.exploration.STRATEGIES`.
            gamma: Mixture ratio, a number in [0, 1] or a schedule over queries.
            synthetic_pair: Which pair the ERM labels: ``"selected_pair"`` or
                ``"best_vs_worst"``.
            measure_online_win_rate: Whether duelled responses are also compared with the
                references (evaluation questions, counted apart).
        """
        return self._set(locals())

    def reward_model(
        self,
        *,
        erm_encoder: str = NotProvided,
        ensemble_size: int = NotProvided,
        erm_hidden: Sequence[int] = NotProvided,
        erm_lr: float = NotProvided,
        erm_weight_decay: float = NotProvided,
        erm_lambda: float = NotProvided,
        erm_lambda_fades: bool = NotProvided,
        erm_minibatches: int = NotProvided,
        erm_minibatch_size: int = NotProvided,
    ) -> SEAConfig:
        """Sets the epistemic reward model.

        Args:
            erm_encoder: ``"minilm"`` or any Hugging Face encoder.
            ensemble_size: K, at least 1.
            erm_hidden: Widths of a member's hidden layers.
            erm_lr: Adam's learning rate.
            erm_weight_decay: Adam's weight decay.
            erm_lambda: Weight of the pull towards the initial weights.
            erm_lambda_fades: Whether that weight fades as labels come in.
            erm_minibatches: m, updates a round.
            erm_minibatch_size: Labels in each.
        """
        return self._set(locals())

    def preference_learning(
        self,
        *,
        loss: str = NotProvided,
        beta: float = NotProvided,
        policy_lr: float = NotProvided,
        policy_betas: tuple[float, float] = NotProvided,
        policy_weight_decay: float = NotProvided,
        lr_schedule: str = NotProvided,
        warmup_ratio: float = NotProvided,
        max_grad_norm: float = NotProvided,
        policy_minibatch_size: int = NotProvided,
        train_precision: str = NotProvided,
        train_strategy: str = NotProvided,
        zero_stage: int = NotProvided,
        num_train_workers: int = NotProvided,
        num_cpus_per_train_worker: float = NotProvided,
        num_gpus_per_train_worker: float = NotProvided,
        max_train_failures: int = NotProvided,
    ) -> SEAConfig:
        """Sets the direct optimizer and the Ray Train run.

        Args:
            loss: ``"dpo"``, ``"ipo"`` or ``"slic"``.
            beta: Strength of the pull towards the reference policy.
            policy_lr: AdamW's peak learning rate.
            policy_betas: AdamW's betas.
            policy_weight_decay: AdamW's weight decay.
            lr_schedule: ``"cosine"`` (to 10%, needs a query budget) or ``"constant"``.
            warmup_ratio: Share of the rounds over which the rate rises from 0.
            max_grad_norm: Gradients are clipped to this norm.
            policy_minibatch_size: Pairs in one forward pass of one worker.
            train_precision: ``"bf16"`` (autocast over fp32 weights) or ``"fp32"``.
            train_strategy: ``"ddp"`` or ``"deepspeed"``.
            zero_stage: DeepSpeed's ZeRO stage, 1 to 3.
            num_train_workers: Ray Train workers.
            num_cpus_per_train_worker: Logical CPUs of each.
            num_gpus_per_train_worker: GPUs of each.
            max_train_failures: How many worker deaths a run survives.
        """
        return self._set(locals())

    @override(AlgorithmConfig)
    def evaluation(
        self,
        *,
        evaluation_split: str = NotProvided,
        evaluation_num_prompts: int | None = NotProvided,
        **kwargs: Any,
    ) -> SEAConfig:
        """Sets the evaluation; RLlib's ``evaluation_interval`` counts rounds.

        Args:
            evaluation_split: Split of the prompt source, never trained on.
            evaluation_num_prompts: How many of its prompts; None takes all.
            **kwargs: RLlib's own.
        """
        super().evaluation(**kwargs)
        del kwargs
        return self._set(locals())

    @override(AlgorithmConfig)
    def resources(self, *, num_threads: int | None = NotProvided, **kwargs: Any) -> SEAConfig:
        """Sets resources.

        Args:
            num_threads: Torch threads of each stage; None takes all cores.
            **kwargs: RLlib's own.
        """
        super().resources(**kwargs)
        del kwargs
        return self._set(locals())

    def _set(self, arguments: Mapping[str, Any]) -> SEAConfig:
        for key, value in arguments.items():
            if key not in ("self", "__class__") and value is not NotProvided:
                setattr(self, key, value)
        return self

    # -- From dictionaries ------------------------------------------------------------

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: Mapping[str, Any]) -> SEAConfig:
        """Updates from a flat dictionary, as in a YAML file.

        Raises:
            ConfigError: For a key that SEA does not have, or that has no effect in it.
        """
        valid = self.to_dict().keys()
        for key, value in config_dict.items():
            # Tune's and RLlib's own dictionaries carry every key of RLlib, at its default.
            if key in UNUSED_RLLIB_KEYS and value != self.to_dict().get(key, NotProvided):
                raise ConfigError(
                    f"config key {key!r} has no effect in SEA: set {UNUSED_RLLIB_KEYS[key]}"
                )
            if key not in valid and not key.startswith("__"):
                raise ConfigError(f"unknown config key {key!r}{nearest(key, valid)}")
        super().update_from_dict(dict(config_dict))
        return self

    @classmethod
    def from_user_dict(cls, config: Mapping[str, Any], env: str | None = None) -> SEAConfig:
        """A validated configuration from what a user wrote.

        Args:
            config: Flat keys, as in a YAML file.
            env: The environment's id; None keeps the default.

        Raises:
            ConfigError: For unknown keys and bad values, before anything starts.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(f"config: {config!r} is not a mapping of keys to values")
        instance = cls()
        instance.update_from_dict(config)
        if env is not None:
            instance.env = env
        instance.validate()
        return instance

    # -- Validation -------------------------------------------------------------------

    @override(AlgorithmConfig)
    def validate(self) -> None:
        """Checks every value, and that models, prompts and oracle can be found.

        Raises:
            ConfigError: One line that names the key, the value and what was expected.
        """
        super().validate()
        if self.in_evaluation:
            return  # RLlib's copy for evaluation: checked with the original
        check.check_int("prompts_per_round", self.prompts_per_round, 1)
        check.check_int("num_candidates", self.num_candidates, 2)
        check.check_int("query_budget", self.query_budget, 1, optional=True)
        check.check_choice("exploration_strategy", self.exploration_strategy, STRATEGIES)
        check.check_schedule("gamma", self.gamma, 0.0, 1.0)
        check.check_choice(
            "synthetic_pair", self.synthetic_pair, {"selected_pair", "best_vs_worst"}
        )
        check.check_bool("measure_online_win_rate", self.measure_online_win_rate)

        check.check_int("max_new_tokens", self.max_new_tokens, 1)
        check.check_number("temperature", self.temperature, 0.0, open_low=True)
        check.check_number("top_p", self.top_p, 0.0, 1.0, open_low=True)
        check.check_bool("chat_template", self.chat_template, optional=True)

        check.check_int("ensemble_size", self.ensemble_size, 1)
        check.check_int_list("erm_hidden", self.erm_hidden, 1)
        check.check_number("erm_lr", self.erm_lr, open_low=True)
        check.check_number("erm_weight_decay", self.erm_weight_decay)
        check.check_number("erm_lambda", self.erm_lambda)
        check.check_bool("erm_lambda_fades", self.erm_lambda_fades)
        check.check_int("erm_minibatches", self.erm_minibatches, 1)
        check.check_int("erm_minibatch_size", self.erm_minibatch_size, 1)

        check.check_int("seed", self.seed, 0)
        check.check_int("num_threads", self.num_threads, 1, optional=True)
        check.check_int("num_env_runners", self.num_env_runners, 1)
        check.check_int("evaluation_interval", self.evaluation_interval, 1, optional=True)
        check.check_int("evaluation_num_prompts", self.evaluation_num_prompts, 1, optional=True)
        if self.num_env_runners > self.prompts_per_round:
            raise ConfigError(
                f"num_env_runners: {self.num_env_runners} runners cannot share "
                f"prompts_per_round {self.prompts_per_round}"
            )
        if self.lr_schedule == "cosine" and self.query_budget is None:
            raise ConfigError(
                "lr_schedule: cosine needs an end: set query_budget, or lr_schedule constant"
            )
        self.policy_train_config().validate()

        if self.env != "text_duel/TLDR-v0":
            raise ConfigError(
                f"env: {self.env!r} is no text-duel environment (expected 'text_duel/TLDR-v0')"
            )
        text_duel.validate_env_config(self.env_config)
        text_duel.validate_env_config(self.evaluation_env_config())
        check_sampler(self.sampler)
        check_model(self.policy_model)
        check_encoder(self.erm_encoder)

    # -- What the parts are built from ------------------------------------------------

    @property
    def threads_per_env_runner(self) -> int:
        """Torch threads of an env runner."""
        return self.num_threads or _num_cores()

    def evaluation_env_config(self) -> dict[str, Any]:
        """The environment's configuration on held-out prompts."""
        return {
            **self.env_config,
            "split": self.evaluation_split,
            "limit": self.evaluation_num_prompts,
        }

    def policy_model_path(self) -> Path:
        """The policy's local folder; dequantises or downloads it on first use."""
        return resolve_model(self.policy_model)

    def sampling_config(self) -> SamplingConfig:
        """How training responses are sampled."""
        return SamplingConfig(self.max_new_tokens, self.temperature, self.top_p)

    def policy_module_config(self, max_model_len: int) -> dict[str, Any]:
        """The ``model_config`` of :class:`rllib_sea.policy.module.VLLMPolicyModule`.

        Args:
            max_model_len: Longest prompt and response together, in tokens.
        """
        return {
            "max_model_len": max_model_len,
            "model_path": str(self.policy_model_path()),
            "sampler": self.sampler,
            "sampler_config": {"num_threads": self.threads_per_env_runner, **self.sampler_config},
            "sampling": self.sampling_config(),
            "num_candidates": self.num_candidates,
        }

    def policy_train_config(self) -> PolicyTrainConfig:
        """The Ray Train run's configuration, but for its model's folder and its storage."""
        total = None
        if self.query_budget is not None:
            # Expected: synthetic pairs use no queries, skipped prompts neither.
            total = _expected_rounds(self.query_budget, self.prompts_per_round, self.gamma)
        return PolicyTrainConfig(
            model_path="",
            loss=self.loss,
            beta=self.beta,
            lr=self.policy_lr,
            betas=tuple(self.policy_betas),
            weight_decay=self.policy_weight_decay,
            schedule=self.lr_schedule,
            warmup_ratio=self.warmup_ratio,
            total_rounds=total,
            max_grad_norm=self.max_grad_norm,
            minibatch_size=self.policy_minibatch_size,
            precision=self.train_precision,
            strategy=self.train_strategy,
            zero_stage=self.zero_stage,
            num_workers=self.num_train_workers,
            cpus_per_worker=self.num_cpus_per_train_worker,
            gpus_per_worker=self.num_gpus_per_train_worker,
            threads_per_worker=self.num_threads or max(1, _num_cores() // self.num_train_workers),
            max_failures=self.max_train_failures,
            seed=self.seed,
        )

    def total_cpus(self) -> float:
        """Logical CPUs of one run, its Ray Train workers included."""
        return (
            self.num_cpus_for_main_process
            + self.num_env_runners * self.num_cpus_per_env_runner
            + self.num_learners * self.num_cpus_per_learner
            + self.num_train_workers * self.num_cpus_per_train_worker
        )

    def total_gpus(self) -> float:
        """GPUs of one run, its Ray Train workers included."""
        return (
            self.num_env_runners * self.num_gpus_per_env_runner
            + max(1, self.num_learners) * self.num_gpus_per_learner
            + self.num_train_workers * self.num_gpus_per_train_worker
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


class SEA(Algorithm):
    """Sample-efficient alignment with Thompson sampling and an epistemic reward model."""

    config: SEAConfig

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> SEAConfig:
        return SEAConfig()

    # -- Algorithm 2 ------------------------------------------------------------------

    @override(Algorithm)
    def training_step(self) -> None:
        """One round: duels, ERM update, policy update, new weights."""
        tasks = self._next_tasks()  # lines 2 and 6: prompts, and which are synthetic
        with self._stage("sample"):  # lines 3 to 6: propose, select, label
            shares = self._sample(tasks)
        duels = [duel for share in shares for duel in share.duels]
        with self._stage("erm"):  # line 7
            erm_metrics = self._update_reward_model([d for d in duels if not d.synthetic])
        with self._stage("policy"):  # line 8
            policy_metrics = self._update_policy([duel.preference_pair() for duel in duels])
        self._finish_round(shares, duels, erm_metrics, policy_metrics)

    def _next_tasks(self) -> list[RoundTask]:
        """Draws the round's prompts, decides which are synthetic, and shares them out."""
        if self._is_done():
            raise RuntimeError(
                f"query_budget {self.config.query_budget} is used: the run has ended"
            )
        config = self.config
        count = config.prompts_per_round
        drawn = prompt_order(
            len(self._trainable_prompts), config.seed, self._num_prompts_drawn, count
        )
        gamma = gamma_at(config.gamma, self._num_oracle_queries)
        synthetic = draw_synthetic(
            gamma, generators(config.seed, self._round, range(count), Stream.MIXING)
        )
        if config.query_budget is not None:
            left = config.query_budget - self._num_oracle_queries
            asked = np.cumsum([not ours for ours in synthetic])
            count = int(np.searchsorted(asked, left, side="right")) if asked[-1] > left else count
        self._num_prompts_drawn += count
        self._gamma_now = gamma
        tasks = []
        for chunk in np.array_split(np.arange(count), min(count, config.num_env_runners)):
            tasks.append(
                RoundTask(
                    round=self._round,
                    positions=tuple(int(i) for i in chunk),
                    prompt_indices=tuple(self._trainable_prompts[drawn[i]] for i in chunk),
                    synthetic=tuple(synthetic[i] for i in chunk),
                )
            )
        return tasks

    def _sample(self, tasks: Sequence[RoundTask]) -> list[RoundShare]:
        """Has the env runners work on the tasks; a dead runner's task goes to another."""
        calls = [{"task": task, "weights": self._weights} for task in tasks]
        shares: list[RoundShare] = self._call_env_runners("sample", calls)
        return sorted(shares, key=lambda share: share.positions)

    def _update_reward_model(self, real: Sequence[Duel]) -> dict[str, float]:
        """Adds the round's labels to the replay and fits the ERM to it."""
        config = self.config
        metrics = reward_model_metrics(real)
        for duel in real:
            winner = 0 if duel.first_wins else 1
            self._replay.add(duel.features[winner], duel.features[1 - winner])
        self._num_oracle_queries += len(real)
        if len(self._replay) == 0:
            return metrics
        size = min(config.erm_minibatch_size, len(self._replay))
        chosen, rejected = self._replay.minibatches(
            config.erm_minibatches, size, generator(config.seed, self._round, 0, Stream.REPLAY)
        )
        strength = regularisation_strength(
            config.erm_lambda, size, self._num_oracle_queries, config.erm_lambda_fades
        )
        batch = SampleBatch(
            {
                CHOSEN_FEATURES: chosen,
                REJECTED_FEATURES: rejected,
                STRENGTH: np.full(len(chosen), strength, dtype=np.float32),
            }
        )
        results = self.learner_group.update(
            batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=len(chosen)),
            minibatch_size=size,
        )
        self.metrics.aggregate(results, key="learners")
        learned = self.metrics.peek(("learners", DEFAULT_MODULE_ID))
        metrics |= {
            key: float(learned[key])
            for key in ("total_loss", "nll", "accuracy", "distance_from_start")
        }
        self._publish_reward_model()
        return metrics

    def _update_policy(self, pairs: list[PreferencePair]) -> dict[str, float]:
        """One step of the direct loss on the mixed batch, in the Ray Train run."""
        if not pairs:
            return {}
        try:
            update = self.policy_trainer.update(pairs)
        except NonFiniteUpdateError as error:
            path = Path(self.logdir) / f"non_finite_round_{self._round}.json"
            path.write_text(json.dumps([dataclasses.asdict(pair) for pair in pairs]))
            raise RuntimeError(f"{error}; the round's pairs are in {path}") from error
        self._publish_policy()
        return dict(update)

    def _finish_round(
        self,
        shares: Sequence[RoundShare],
        duels: Sequence[Duel],
        erm_metrics: Mapping[str, float],
        policy_metrics: Mapping[str, float],
    ) -> None:
        """Counts, and logs the round's metrics (docs/metrics.md)."""
        self._round += 1
        num_synthetic = sum(duel.synthetic for duel in duels)
        self._num_synthetic_pairs += num_synthetic
        self._num_skipped_prompts += sum(len(share.skipped_prompt_ids) for share in shares)
        self._num_evaluation_questions += sum(share.num_evaluation_questions for share in shares)
        append_duels(Path(self.logdir), duels)
        groups = {
            "duels": {"gamma": self._gamma_now} | duel_metrics(shares),
            "reward_model": erm_metrics,
            "policy": policy_metrics,
        }
        for group, values in groups.items():
            for key, value in values.items():
                self.metrics.log_value((group, key), value, window=1)
        for stage in shares[0].seconds:
            slowest = max(share.seconds[stage] for share in shares)
            self.metrics.log_value(("seconds", f"sample_{stage}"), slowest, window=1)

    def _counters_now(self) -> dict[str, int]:
        return {
            "num_oracle_queries": self._num_oracle_queries,
            "round": self._round,
            "num_synthetic_pairs": self._num_synthetic_pairs,
            "num_skipped_prompts": self._num_skipped_prompts,
            "num_prompts_too_long": self._num_prompts_too_long,
            "num_evaluation_questions": self._num_evaluation_questions,
            "policy_version": self.policy_trainer.version,
        }

    # -- Set-up and end ---------------------------------------------------------------

    @override(Algorithm)
    def setup(self, config: SEAConfig) -> None:
        self._replay = PreferenceReplay()
        self._round = 0
        self._num_oracle_queries = 0
        self._num_prompts_drawn = 0
        self._num_synthetic_pairs = 0
        self._num_skipped_prompts = 0
        self._num_evaluation_questions = 0
        self._gamma_now = 1.0
        self._baseline: list[str] | None = None
        self._erm_version = 0

        model_path = self.config.policy_model_path()
        self._find_trainable_prompts(model_path)
        self.policy_trainer = PolicyTrainer(
            dataclasses.replace(
                self.config.policy_train_config(),
                model_path=str(model_path),
                storage_path=str(Path(self.logdir).resolve() / "train"),
            )
        )
        try:
            self.policy_trainer.start()  # starts up while the env runners do
            super().setup(config)
            self._publish_reward_model()
            self._call_env_runners("start", [{}] * self.config.num_env_runners)
            self._publish_policy()
        except BaseException:
            self.policy_trainer.stop()
            raise
        self._dashboard = DashboardMetrics(Path(self.logdir).name)

    def _find_trainable_prompts(self, model_path: Path) -> None:
        """Leaves out prompts that do not fit the model, and counts them."""
        tokenizer = PromptTokenizer(model_path, chat=self.config.chat_template)
        prompts = text_duel.load_prompts(**text_duel.prompt_options(self.config.env_config))
        held_out = text_duel.load_prompts(
            **text_duel.prompt_options(self.config.evaluation_env_config())
        )

        def fitting(candidates: Sequence[text_duel.Prompt]) -> list[int]:
            texts = [prompt.text for prompt in candidates]
            return list(tokenizer.fitting_lengths(texts, self.config.max_new_tokens))

        self._trainable_prompts = fitting(prompts)
        self._held_out_prompts = fitting(held_out)
        self._num_prompts_too_long = len(prompts) - len(self._trainable_prompts)
        for name, kept in (
            ("training", self._trainable_prompts),
            ("held-out", self._held_out_prompts),
        ):
            if not kept:
                raise ConfigError(
                    f"env_config: every {name} prompt is longer than "
                    f"{tokenizer.context_length - self.config.max_new_tokens} tokens, the context "
                    f"of {self.config.policy_model} less max_new_tokens"
                )
        shared = {p.id for p in prompts} & {p.id for p in held_out}
        if shared:
            raise ConfigError(
                f"evaluation_split: {len(shared)} held-out prompts are training prompts "
                f"(such as {min(shared)!r}); evaluate on another split"
            )

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        if self._baseline is None:
            self._baseline = self._initial_responses()
        # RLlib looks for episodes in evaluation results and warns, once, that there are
        # none; duels have none.
        log_once("no_eval_results")
        result = super().step()
        result["done"] = self._is_done()
        if result["done"] and EVALUATION_RESULTS not in result:
            result.update(self._run_one_evaluation())
        # RLlib's metrics are floats; counts are not.
        result |= self._counters_now()
        result["query_budget"] = self.config.query_budget
        result["seconds"]["round"] = time.perf_counter() - start
        self._dashboard.publish(result)
        return result

    def _is_done(self) -> bool:
        budget = self.config.query_budget
        return budget is not None and self._num_oracle_queries >= budget

    @override(Algorithm)
    def cleanup(self) -> None:
        super().cleanup()
        if hasattr(self, "policy_trainer"):
            self.policy_trainer.stop()

    # -- Evaluation -------------------------------------------------------------------

    @classmethod
    @override(Algorithm)
    def _should_create_evaluation_env_runners(cls, eval_config: AlgorithmConfig) -> bool:
        # The training env runners evaluate, too: a second engine would not fit beside them.
        return False

    def evaluate_held_out(self) -> list[EvaluatedResponse]:
        """The current policy's greedy responses, compared."""
        if self._baseline is None:
            self._baseline = self._initial_responses()
        calls = [
            {
                "indices": [self._held_out_prompts[i] for i in chunk],
                "baseline": [self._baseline[i] for i in chunk],
                "weights": self._weights,
            }
            for chunk in self._shares_of_held_out()
        ]
        parts = self._call_env_runners("evaluate", calls)
        return [response for part in parts for response in part]

    def record_evaluation(self, responses: Sequence[EvaluatedResponse]) -> None:
        """Keeps sample responses, and counts the questions asked."""
        questions = sum(2 - np.isnan([r.win_vs_reference]).sum() for r in responses)
        self._num_evaluation_questions += int(questions)
        append_responses(Path(self.logdir), responses, self._num_oracle_queries)

    def _initial_responses(self) -> list[str]:
        """Greedy responses of the policy before its first update."""
        calls = [
            {
                "indices": [self._held_out_prompts[i] for i in chunk],
                "weights": self._weights,
            }
            for chunk in self._shares_of_held_out()
        ]
        parts = self._call_env_runners("respond", calls)
        return [candidate.text for part in parts for candidate in part]

    def _shares_of_held_out(self) -> list[np.ndarray]:
        num = len(self._held_out_prompts)
        return np.array_split(np.arange(num), min(num, self.config.num_env_runners))

    # -- Env runners and their weights ------------------------------------------------

    @property
    def _weights(self) -> dict[str, Any]:
        """What :meth:`DuelEnvRunner.load` takes: references, fetched where needed only."""
        return {
            "policy_version": self.policy_trainer.version,
            "policy_ref": self._policy_ref,
            "erm_version": self._erm_version,
            "erm_ref": self._erm_ref,
        }

    def _publish_policy(self) -> None:
        """Puts the policy's weights where every env runner can fetch them."""
        # Owned by this process: a training worker's death must not take them along.
        self._policy_ref = ray.put(self.policy_trainer.weights())

    def _publish_reward_model(self) -> None:
        """Puts the ERM's weights where every env runner can fetch them."""
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        self._erm_ref = ray.put(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])
        self._erm_version += 1

    def _call_env_runners(self, method: str, calls: Sequence[dict[str, Any]]) -> list[Any]:
        """Makes each call on some healthy env runner; a dead runner's calls are redone.

        Args:
            method: A method of :class:`DuelEnvRunner`.
            calls: Keyword arguments, one dictionary a call.

        Returns:
            The results, in the order of ``calls``.

        Raises:
            RuntimeError: For a :class:`Failure`, or where no runner comes back.
        """
        group = self.env_runner_group
        results: dict[int, Any] = {}
        deadline = time.monotonic() + self.config.sample_timeout_s
        while len(results) < len(calls):
            open_calls = [i for i in range(len(calls)) if i not in results]
            runners = group.healthy_env_runner_ids()
            if not runners:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"no env runner came back within {self.config.sample_timeout_s} s"
                    )
                time.sleep(1.0)
                self.restore_env_runners(group)
                continue
            batch = list(zip(runners, open_calls, strict=False))
            answers = group.foreach_env_runner(
                [_numbered_call(method, i) for _, i in batch],
                kwargs=[calls[i] for _, i in batch],
                remote_worker_ids=[runner for runner, _ in batch],
                local_env_runner=False,
                timeout_seconds=self.config.sample_timeout_s,
            )
            for number, answer in answers:
                if isinstance(answer, Failure):
                    raise RuntimeError(f"{answer.error}\n{answer.traceback}")
                results[number] = answer
        return [results[i] for i in range(len(calls))]

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Takes env runners that came back into service; tasks bring them up to date."""
        return env_runner_group.probe_unhealthy_env_runners()

    # -- Checkpoints ------------------------------------------------------------------

    @override(Algorithm)
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return [*super().get_checkpointable_components(), ("policy", self.policy_trainer)]

    @override(Algorithm)
    def get_state(
        self,
        components: str | Iterable[str] | None = None,
        *,
        not_components: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        # There are no connectors: texts go to the policy's tokenizer.
        left_out = [
            *force_list(not_components),
            COMPONENT_ENV_TO_MODULE_CONNECTOR,
            COMPONENT_MODULE_TO_ENV_CONNECTOR,
        ]
        state = super().get_state(components, not_components=left_out, **kwargs)
        if self._check_component("policy", components, not_components):
            state["policy"] = self.policy_trainer.get_state()
        if self._check_component("sea", components, not_components):
            state["sea"] = {
                "replay": self._replay.get_state(),
                "round": self._round,
                "num_oracle_queries": self._num_oracle_queries,
                "num_prompts_drawn": self._num_prompts_drawn,
                "num_synthetic_pairs": self._num_synthetic_pairs,
                "num_skipped_prompts": self._num_skipped_prompts,
                "num_evaluation_questions": self._num_evaluation_questions,
                "baseline": self._baseline,
            }
        return state

    @override(Algorithm)
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if "sea" in state:
            ours = state["sea"]
            self._replay.set_state(ours["replay"])
            self._round = ours["round"]
            self._num_oracle_queries = ours["num_oracle_queries"]
            self._num_prompts_drawn = ours["num_prompts_drawn"]
            self._num_synthetic_pairs = ours["num_synthetic_pairs"]
            self._num_skipped_prompts = ours["num_skipped_prompts"]
            self._num_evaluation_questions = ours["num_evaluation_questions"]
            self._baseline = ours["baseline"]

    @override(Algorithm)
    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        self._publish_policy()
        self._publish_reward_model()

    # -- Timing -----------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.metrics.log_value(("seconds", name), time.perf_counter() - start, window=1)


def _numbered_call(method: str, number: int) -> Any:
    """A call whose answer says which call it answers: answers come without their runner."""

    def call(runner: DuelEnvRunner, **kwargs: Any) -> tuple[int, Any]:
        return number, getattr(runner, method)(**kwargs)

    return call


def _num_cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _expected_rounds(budget: int, prompts_per_round: int, gamma: Gamma) -> int:
    """Rounds until a budget is used, were no prompt skipped."""
    queries, rounds = 0.0, 0
    while queries < budget:
        step = gamma_at(gamma, int(queries)) * prompts_per_round
        if step <= 0:
            raise ConfigError(
                "gamma: 0 asks the oracle nothing: the query budget is never used; "
                "set lr_schedule constant and query_budget null, or a larger gamma"
            )
        queries += step
        rounds += 1
    return rounds
