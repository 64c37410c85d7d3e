"""SEAConfig: everything that can be set, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

import text_duel
from rllib_sea.duels.records import SamplingConfig
from rllib_sea.env_runners.duel_env_runner import DuelEnvRunner
from rllib_sea.evaluation import evaluate
from rllib_sea.exploration import STRATEGIES
from rllib_sea.exploration.mixing import SYNTHETIC_PAIRS, Gamma, gamma_at
from rllib_sea.exploration.prompt_acquisition import ACQUISITIONS
from rllib_sea.labelling.asking import Patience
from rllib_sea.labelling.labeller import LabellerSettings
from rllib_sea.policy.models import check_policy, resolve_model
from rllib_sea.policy.module import VLLMPolicyModule
from rllib_sea.policy.precision import AUTO, DTYPE_OF_PRECISION
from rllib_sea.policy.sampler import check_sampler
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.preference_log.records import RunRecord
from rllib_sea.preference_models import DROP
from rllib_sea.randomness import Stream, generator
from rllib_sea.reward_model.encoder import check_encoder
from rllib_sea.reward_model.initial_preferences import check_initial_preferences
from rllib_sea.reward_model.learner import EpistemicRewardLearner
from rllib_sea.reward_model.module import EpistemicRewardModel
from rllib_sea.reward_model.part import RewardModelSettings
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError, nearest
from text_duel.oracles import oracle_class

# RLlib's keys that mean nothing to SEA, and what to set instead.
UNUSED_RLLIB_KEYS = {
    "lr": "policy_lr or erm_lr",
    "train_batch_size": "prompts_per_round",
    "train_batch_size_per_learner": "erm_minibatch_size",
    "minibatch_size": "policy_minibatch_size or erm_minibatch_size",
    "num_epochs": "erm_minibatches",
    "model": "policy_model",
    "exploration_config": "strategy_config",
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
            .duels(query_budget=256, gamma=[[0, 1.0], [64, 1.0], [65, 0.5]])
        )
        algo = config.build_algo()
        algo.train()
    """

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        from rllib_sea.sea import SEA  # it imports this module

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
        # Options of the strategy; see docs/exploration.md.
        self.strategy_config: dict[str, Any] = {}
        # `entropy` or `certainty`: choose a round's prompts from a larger pool (APL).
        self.prompt_acquisition: str | None = None
        # Prompts of that pool.
        self.prompt_pool_size: int | None = None
        # Rounds after which the trained weights sample: 1 is online, more is iterative,
        # None is offline (the initial policy samples all responses).
        self.policy_sync_interval: int | None = 1
        # The mixture ratio: a number, or a schedule over queries; 1 mixes nothing. After a warm-up
        # 0.5 needs fewer labels than the paper's 0.7, and more rounds (docs/results). (RLlib's
        # discount factor of the same name has no meaning in a bandit.)
        self.gamma: Gamma = 1.0
        # `best_vs_worst` (the authors' code) or `selected_pair` (Algorithm 2); with gamma 0.5 the
        # former needs fewer labels (docs/results/bandit).
        self.synthetic_pair = "best_vs_worst"
        # Compare duelled responses with the references (evaluation questions).
        self.measure_online_win_rate = True
        # How often the oracle is asked again where it cannot answer, and seconds before the
        # first time; they double from time to time.
        self.oracle_retries = 5
        self.oracle_retry_wait_s = 10.0
        # Seconds after which a silent oracle counts as one that cannot answer.
        self.oracle_timeout_s = 600.0
        # Questions that an asynchronous oracle has at once.
        self.oracle_concurrency = 32
        # The share of a round's questions after whose answers the round learns.
        self.wait_for = 1.0
        # Seconds after which it learns from what is there; None: no deadline.
        self.label_deadline_s: float | None = None
        # Rounds after which an open question is withdrawn; None: never.
        self.withdraw_after: int | None = None
        # GPUs of the labeller, for an oracle that is a model.
        self.num_gpus_for_labeller: float = 0
        # Score all candidates by the oracle (evaluation questions).
        self.measure_candidate_scores = False

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
        # Randomised prior functions; 0: plain heads, as in the paper.
        self.erm_prior_scale = 0.0
        self.erm_prior_hidden = [64, 64]
        # Probability that a member learns from a label; 1: all do, as in the paper.
        self.erm_bootstrap = 1.0
        # A preference log whose labels the ERM learns from before the first round.
        self.initial_preferences: str | None = None

        # `preference_learning()`
        # False: reward-model-only learning, the policy stays as it is.
        self.update_policy = True
        # A name of `rllib_sea.policy_update.objectives.losses.LOSSES`.
        self.loss = "dpo"
        self.beta = 0.1
        # Options of the loss; see docs/losses.md.
        self.loss_config: dict[str, Any] = {}
        # What a tie teaches: `drop` (nothing), `soft`, `rao_kupper` or `davidson`.
        self.ties = DROP
        # The number of the last two: Rao and Kupper's a, Davidson's nu.
        self.tie_margin: float | None = None
        # `xpo` or `selm`: a term that keeps the policy exploring.
        self.optimism: str | None = None
        self.optimism_alpha = 1e-5
        # Further steps per round, each on pairs drawn from all labels so far.
        self.policy_replay = 0
        self.policy_lr = 5e-7
        self.policy_betas: Sequence[float] = (0.9, 0.95)
        self.policy_weight_decay = 0.0
        # `cosine` (to 10%) or `constant`, after `warmup_ratio` of all steps.
        self.lr_schedule = "cosine"
        self.warmup_ratio = 0.02
        self.max_grad_norm = 1.0
        # Pairs in one forward pass of one worker; never changes the result.
        self.policy_minibatch_size = 8
        # `bf16` (autocast over fp32 weights), `fp32`, or `auto`: bf16 where the hardware has it.
        self.train_precision = AUTO
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
        # Also answer with the best of N samples by the ERM's mean reward.
        self.evaluation_best_of_n: int | None = None
        # Held-out prompts on which the KL divergence from the reference policy is estimated.
        self.evaluation_kl_prompts = 16

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
            sampler_config: Options of the sampler's engine. Its ``dtype`` is what training
                computes in (``train_precision``) unless it is given here.
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
        strategy_config: dict[str, Any] = NotProvided,
        prompt_acquisition: str | None = NotProvided,
        prompt_pool_size: int | None = NotProvided,
        policy_sync_interval: int | None = NotProvided,
        gamma: Gamma = NotProvided,
        synthetic_pair: str = NotProvided,
        measure_online_win_rate: bool = NotProvided,
        measure_candidate_scores: bool = NotProvided,
        oracle_retries: int = NotProvided,
        oracle_retry_wait_s: float = NotProvided,
        oracle_timeout_s: float = NotProvided,
        oracle_concurrency: int = NotProvided,
        wait_for: float = NotProvided,
        label_deadline_s: float | None = NotProvided,
        withdraw_after: int | None = NotProvided,
        num_gpus_for_labeller: float = NotProvided,
    ) -> SEAConfig:
        """Sets which responses are put to the oracle, and how many.

        Args:
            prompts_per_round: b, prompts of one round.
            num_candidates: M, responses sampled per prompt, at least 2.
            query_budget: Labels after which the run ends; never exceeded.
            exploration_strategy: A name of :data:`rllib_sea.exploration.STRATEGIES`.
            strategy_config: The strategy's options.
            prompt_acquisition: ``"entropy"`` or ``"certainty"``: how a round's prompts are
                chosen from a pool; None takes prompts as they come.
            prompt_pool_size: Prompts of that pool, more than ``prompts_per_round``.
            policy_sync_interval: Rounds after which the trained weights sample: 1 is online,
                more is iterative, None is offline.
            gamma: Mixture ratio, a number in [0, 1] or a schedule over queries.
            synthetic_pair: Which pair the ERM labels: ``"best_vs_worst"`` or
                ``"selected_pair"``.
            measure_online_win_rate: Whether duelled responses are also compared with the
                references (evaluation questions, counted apart).
            measure_candidate_scores: Whether the oracle also scores all candidates, for
                regret and the accuracy of synthetic labels (evaluation questions, too).
            oracle_retries: How often the oracle is asked again where it cannot answer.
            oracle_retry_wait_s: Seconds before the first time, doubled from time to time.
            oracle_timeout_s: Seconds after which a silent oracle counts as one that cannot
                answer.
            oracle_concurrency: Questions that an asynchronous oracle has at once.
            wait_for: The share, in (0, 1], of a round's questions after whose answers the round
                learns; later answers are learned from in the rounds that they come in.
            label_deadline_s: Seconds after which it learns from what is there; None: no deadline.
            withdraw_after: Rounds after which an open question is withdrawn, and counts no more;
                None: never.
            num_gpus_for_labeller: GPUs of the labeller, for an oracle that is a model.
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
        erm_prior_scale: float = NotProvided,
        erm_prior_hidden: Sequence[int] = NotProvided,
        erm_bootstrap: float = NotProvided,
        initial_preferences: str | None = NotProvided,
    ) -> SEAConfig:
        """Sets the epistemic reward model.

        Args:
            erm_encoder: ``"minilm"``, ``"policy"`` (the initial policy's last hidden state), or
                any Hugging Face encoder.
            ensemble_size: K, at least 1.
            erm_hidden: Widths of a member's hidden layers.
            erm_lr: Adam's learning rate.
            erm_weight_decay: Adam's weight decay.
            erm_lambda: Weight of the pull towards the initial weights.
            erm_lambda_fades: Whether that weight fades as labels come in.
            erm_minibatches: m, updates a round.
            erm_minibatch_size: Labels in each.
            erm_prior_scale: Weight of each member's fixed random prior function; 0: none.
            erm_prior_hidden: Widths of its hidden layers.
            erm_bootstrap: Probability that a member learns from a label.
            initial_preferences: A preference log, of an earlier run or made by ``rllib-sea
                preferences import``, whose labels the ERM learns from before the first round.
        """
        return self._set(locals())

    def preference_learning(
        self,
        *,
        update_policy: bool = NotProvided,
        loss: str = NotProvided,
        beta: float = NotProvided,
        loss_config: dict[str, Any] = NotProvided,
        ties: str = NotProvided,
        tie_margin: float | None = NotProvided,
        optimism: str | None = NotProvided,
        optimism_alpha: float = NotProvided,
        policy_replay: int = NotProvided,
        policy_lr: float = NotProvided,
        policy_betas: Sequence[float] = NotProvided,
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
            update_policy: False leaves the policy as it is and learns the ERM only.
            loss: A name of :data:`rllib_sea.policy_update.objectives.losses.LOSSES`.
            beta: Strength of the pull towards the reference policy.
            loss_config: The loss's options.
            ties: What a tie teaches policy and ERM: ``"drop"`` nothing, ``"soft"`` that both
                responses are as good, ``"rao_kupper"`` and ``"davidson"`` what these models say
                (:mod:`rllib_sea.preference_models`).
            tie_margin: The number of the last two.
            optimism: ``"xpo"`` or ``"selm"``: a term beside the loss; None: none.
            optimism_alpha: Its weight.
            policy_replay: Further steps per round, each on ``prompts_per_round`` pairs drawn from
                all that the oracle has labelled in the run; never on pairs that the ERM labelled.
            policy_lr: AdamW's peak learning rate.
            policy_betas: AdamW's betas.
            policy_weight_decay: AdamW's weight decay.
            lr_schedule: ``"cosine"`` (to 10%, needs a query budget) or ``"constant"``.
            warmup_ratio: Share of the steps over which the rate rises from 0.
            max_grad_norm: Gradients are clipped to this norm.
            policy_minibatch_size: Pairs in one forward pass of one worker.
            train_precision: ``"bf16"`` (autocast over fp32 weights), ``"fp32"``, or ``"auto"``:
                bf16 where the workers' hardware multiplies in it.
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
        evaluation_best_of_n: int | None = NotProvided,
        evaluation_kl_prompts: int = NotProvided,
        **kwargs: Any,
    ) -> SEAConfig:
        """Sets the evaluation; RLlib's ``evaluation_interval`` counts rounds.

        Args:
            evaluation_split: Split of the prompt source, never trained on.
            evaluation_num_prompts: How many of its prompts; None takes all.
            evaluation_best_of_n: Also evaluate the best of N samples by the ERM's mean
                reward; None does not.
            evaluation_kl_prompts: Held-out prompts on which the KL divergence from the reference
                policy is estimated, the first of them; 0: it is not.
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
        self._check_exploration()
        check.check_schedule("gamma", self.gamma, 0.0, 1.0)
        check.check_choice("synthetic_pair", self.synthetic_pair, SYNTHETIC_PAIRS)
        check.check_int("policy_sync_interval", self.policy_sync_interval, 1, optional=True)
        check.check_bool("measure_online_win_rate", self.measure_online_win_rate)
        check.check_bool("measure_candidate_scores", self.measure_candidate_scores)
        check.check_int("oracle_retries", self.oracle_retries, 0)
        check.check_number("oracle_retry_wait_s", self.oracle_retry_wait_s)
        check.check_number("oracle_timeout_s", self.oracle_timeout_s, open_low=True)
        check.check_int("oracle_concurrency", self.oracle_concurrency, 1)
        check.check_number("wait_for", self.wait_for, 0.0, 1.0, open_low=True)
        if self.label_deadline_s is not None:
            check.check_number("label_deadline_s", self.label_deadline_s, open_low=True)
        check.check_int("withdraw_after", self.withdraw_after, 1, optional=True)
        check.check_number("num_gpus_for_labeller", self.num_gpus_for_labeller)

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
        check.check_number("erm_prior_scale", self.erm_prior_scale)
        check.check_int_list("erm_prior_hidden", self.erm_prior_hidden, 1)
        check.check_number("erm_bootstrap", self.erm_bootstrap, 0.0, 1.0, open_low=True)
        check_initial_preferences(self.initial_preferences)

        check.check_int("seed", self.seed, 0)
        check.check_int("num_threads", self.num_threads, 1, optional=True)
        check.check_int("num_env_runners", self.num_env_runners, 1)
        check.check_int("evaluation_interval", self.evaluation_interval, 1, optional=True)
        check.check_int("evaluation_num_prompts", self.evaluation_num_prompts, 1, optional=True)
        check.check_int("evaluation_best_of_n", self.evaluation_best_of_n, 2, optional=True)
        check.check_int("evaluation_kl_prompts", self.evaluation_kl_prompts, 0)
        check.check_bool("update_policy", self.update_policy)
        check.check_int("policy_replay", self.policy_replay, 0)
        if self.policy_replay and not self.update_policy:
            raise ConfigError(
                f"policy_replay: {self.policy_replay} has no effect with update_policy false"
            )
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
        prompts = text_duel.validate_env_config(self.env_config)
        oracle = self.env_config.get("oracle", "embedding")
        if self.measure_candidate_scores and not oracle_class(oracle).has_scores:
            raise ConfigError(f"measure_candidate_scores: the oracle {oracle} has no scores")
        held_out = text_duel.validate_env_config(self.evaluation_env_config())
        shared = {p.id for p in prompts} & {p.id for p in held_out}
        if shared:
            raise ConfigError(
                f"evaluation_split: {len(shared)} held-out prompts are training prompts "
                f"(such as {min(shared)!r}); evaluate on another split"
            )
        check_sampler(self.sampler, self.sampler_config)
        check_policy(self.policy_model)
        check_encoder(self.erm_encoder)

    def _check_exploration(self) -> None:
        """Checks the strategy, its options and what it goes with."""
        name = self.exploration_strategy
        check.check_choice("exploration_strategy", name, STRATEGIES)
        strategy = STRATEGIES[name]
        check.check_options(
            "strategy_config", self.strategy_config, strategy.select, strategy.check
        )
        if strategy.losses is not None and self.loss not in strategy.losses:
            raise ConfigError(
                f"exploration_strategy: {name} is not defined for loss {self.loss} (expected "
                f"{' or '.join(strategy.losses)})"
            )
        acquisition = self.prompt_acquisition
        if acquisition is not None:
            check.check_choice("prompt_acquisition", acquisition, ACQUISITIONS)
            if self.prompt_pool_size is None:
                raise ConfigError(
                    f"prompt_acquisition: {acquisition} needs prompt_pool_size, the number of "
                    f"prompts to choose {self.prompts_per_round} from"
                )
            check.check_int("prompt_pool_size", self.prompt_pool_size, self.prompts_per_round + 1)
        elif self.prompt_pool_size is not None:
            raise ConfigError(
                f"prompt_pool_size: {self.prompt_pool_size} has no effect without "
                "prompt_acquisition"
            )
        always_asks = {
            f"exploration_strategy {name}": strategy.reference_candidates,
            f"prompt_acquisition {acquisition}": acquisition is not None,
            "update_policy false": not self.update_policy,
        }
        for choice, given in always_asks.items():
            if given and self.gamma != 1.0:
                raise ConfigError(
                    f"gamma: {self.gamma} has the ERM label pairs, for which {choice} is not "
                    "defined (expected 1.0)"
                )
        if self.needs_implicit_rewards and not self.update_policy:
            choice = f"prompt_acquisition {acquisition}"
            if strategy.needs_implicit_rewards:
                choice = f"exploration_strategy {name}"
            raise ConfigError(
                f"update_policy: false leaves the implicit rewards at 0, by which {choice} chooses"
            )
        if self.optimism is not None and not strategy.reference_candidates:
            raise ConfigError(
                f"optimism: {self.optimism} needs a response from the reference policy in every "
                f"duel: set exploration_strategy xpo, not {name}"
            )

    # -- What the parts are built from ------------------------------------------------

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

    def labeller_settings(self, log: Path, run: RunRecord) -> LabellerSettings:
        """What the run's labeller is made from.

        Args:
            log: The preference log's file.
            run: The run that it belongs to.
        """
        return LabellerSettings(
            log=log,
            run=run,
            env_config=self.env_config,
            patience=Patience(
                oracle_retries=self.oracle_retries,
                oracle_retry_wait_s=self.oracle_retry_wait_s,
                oracle_timeout_s=self.oracle_timeout_s,
                oracle_concurrency=self.oracle_concurrency,
            ),
            wait_for=self.wait_for,
            label_deadline_s=self.label_deadline_s,
            withdraw_after=self.withdraw_after,
            num_threads=self.threads_per_env_runner,
        )

    def reward_model_settings(self) -> RewardModelSettings:
        """How the ERM learns."""
        return RewardModelSettings(
            ensemble_size=self.ensemble_size,
            erm_lambda=self.erm_lambda,
            erm_lambda_fades=self.erm_lambda_fades,
            erm_minibatches=self.erm_minibatches,
            erm_minibatch_size=self.erm_minibatch_size,
            erm_bootstrap=self.erm_bootstrap,
            seed=self.seed,
        )

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

    def expected_rounds(self, num_oracle_queries: int = 0) -> int | None:
        """Rounds until the query budget is used, were no prompt skipped.

        Args:
            num_oracle_queries: Queries asked before them.

        Returns:
            Their number; None without a budget.

        Raises:
            ConfigError: A gamma of 0 never uses it.
        """
        if self.query_budget is None:
            return None
        queries, rounds = float(num_oracle_queries), 0
        while queries < self.query_budget:
            step = gamma_at(self.gamma, int(queries)) * self.prompts_per_round
            if step <= 0:
                raise ConfigError(
                    "gamma: 0 asks the oracle nothing: the query budget is never used; "
                    "set lr_schedule constant and query_budget null, or a larger gamma"
                )
            queries += step
            rounds += 1
        return rounds

    def policy_train_config(self) -> PolicyTrainConfig:
        """The Ray Train run's configuration, but for its model's folder and its storage."""
        rounds = self.expected_rounds()
        return PolicyTrainConfig(
            model_path="",
            loss=self.loss,
            beta=self.beta,
            loss_config=self.loss_config,
            ties=self.ties,
            tie_margin=self.tie_margin,
            optimism=self.optimism,
            optimism_alpha=self.optimism_alpha,
            lr=self.policy_lr,
            betas=self.policy_betas,
            weight_decay=self.policy_weight_decay,
            schedule=self.lr_schedule,
            warmup_ratio=self.warmup_ratio,
            total_steps=None if rounds is None else rounds * (1 + self.policy_replay),
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
            + (self.num_train_workers * self.num_cpus_per_train_worker if self.update_policy else 0)
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
