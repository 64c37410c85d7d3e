"""SEAConfig: everything that can be set, checked before anything starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override
from ray.util.debug import log_once

from rllib_sea.derived import DerivedSettings
from rllib_sea.env_runners.duel_env_runner import DuelEnvRunner
from rllib_sea.evaluation import evaluate
from rllib_sea.exploration.checks import check_method
from rllib_sea.exploration.mixing import gamma_at
from rllib_sea.labelling.labeller_settings import LabellerSettings
from rllib_sea.policy.models import check_policy
from rllib_sea.policy.prompt_split import PromptSplit, read_prompts
from rllib_sea.policy.sampler import check_sampled_model, check_sampler
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.objectives.reinforce import REINFORCE, ReinforceOptions
from rllib_sea.preference_log.records import RunRecord
from rllib_sea.reward_model.encoder import check_encoder
from rllib_sea.reward_model.initial_preferences import check_initial_preferences
from rllib_sea.settings.declaration import check_keys, explained, setter, values_of
from rllib_sea.settings.duels import Duels
from rllib_sea.settings.evaluation import Evaluation
from rllib_sea.settings.groups import GROUPS
from rllib_sea.settings.labelling import Labelling
from rllib_sea.settings.policy import Policy
from rllib_sea.settings.preference_learning import PreferenceLearning
from rllib_sea.settings.resources import Resources
from rllib_sea.settings.reward_model import RewardModel
from rllib_sea.settings.rllib import UNUSED_RLLIB_KEYS
from text_duel.errors import ConfigError, nearest
from text_duel.oracles import oracle_class

logger = logging.getLogger(__name__)


class SEAConfig(DerivedSettings):
    """Defines a configuration from which a SEA Algorithm can be built.

    Each default is the paper's if it gives one, at the scale of a CPU machine, but for three with
    which fewer labels are needed: ``gamma``, ``synthetic_pair`` and ``erm_sees_end``.
    `tuned_examples/` has the recipes, also those of the paper. For example::

        from rllib_sea import SEAConfig

        config = (
            SEAConfig()
            .environment("text_duel/TLDR-v0", env_config={"prompts": "tldr_mini"})
            .policy(policy_model="smollm2-135m-instruct")
            .duels(query_budget=256)
        )
        algo = config.build_algo()
        algo.train()
    """

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        from rllib_sea.sea import SEA  # it imports this module

        AlgorithmConfig.__init__(self, algo_class=algo_class or SEA)
        for group in GROUPS:
            for key, default in vars(group()).items():
                setattr(self, key, default)

        # RLlib's own defaults that differ for SEA.
        self.env = "text_duel/TLDR-v0"
        self.env_runner_cls = DuelEnvRunner
        # The stages of a round take turns, so they share the cores: on 2 cores a run
        # asks for 2 logical CPUs (0.5 + 0.5 + 1), and each stage computes on both.
        self.num_cpus_for_main_process = 0.5
        self.num_cpus_per_env_runner = 0.5
        self.num_cpus_per_learner = 0
        self.num_gpus_per_learner = 0
        # Env runners keep no state that RLlib could merge and broadcast.
        self._dont_auto_sync_env_runner_states = True
        # A round with a large model takes longer than RLlib's 60 s.
        self.sample_timeout_s = 3600.0
        self.custom_evaluation_function = evaluate

    # -- Groups -----------------------------------------------------------------------

    policy = setter(Policy)
    duels = setter(Duels)
    labelling = setter(Labelling)
    reward_model = setter(RewardModel)
    preference_learning = setter(PreferenceLearning)

    # No type says "these keywords and RLlib's": the names of these two groups stand here again.

    @override(AlgorithmConfig)
    @explained(Evaluation)
    def evaluation(
        self,
        *,
        evaluation_split: str | None = NotProvided,
        held_out_share: float | None = NotProvided,
        evaluation_num_prompts: int | None = NotProvided,
        evaluation_best_of_n: int | None = NotProvided,
        evaluation_samples: int = NotProvided,
        evaluation_kl_prompts: int = NotProvided,
        evaluation_questions: int = NotProvided,
        stop_when_gain_below: float | None = NotProvided,
        **kwargs: Any,
    ) -> SEAConfig:
        """Sets the evaluation; other keywords are RLlib's, `evaluation_interval` counts rounds."""
        super().evaluation(**kwargs)
        del kwargs
        return self._set(locals())

    @override(AlgorithmConfig)
    @explained(Resources)
    def resources(self, *, num_threads: int | None = NotProvided, **kwargs: Any) -> SEAConfig:
        """Sets resources; other keywords are RLlib's."""
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
        for group in GROUPS:
            check_keys(self, group)
        # With others beside it, a local env runner would start an engine for nothing.
        self.create_local_env_runner = self.num_env_runners == 0
        check_initial_preferences(self.initial_preferences)
        check_method(self)
        if self.policy_replay and not self.update_policy:
            raise ConfigError(
                f"policy_replay: {self.policy_replay} has no effect with update_policy false"
            )
        if self.policy_replay and self.loss == REINFORCE:
            raise ConfigError(
                f"policy_replay: {self.policy_replay} has no effect with loss {REINFORCE}, which "
                "learns from no pairs"
            )
        if self.stop_when_gain_below is not None:
            for key, lacks in (("update_policy", False), ("evaluation_interval", None)):
                if getattr(self, key) is lacks:
                    raise ConfigError(
                        f"stop_when_gain_below: {self.stop_when_gain_below:g} has no effect with "
                        f"{key} {'null' if lacks is None else 'false'}: nothing is forecast then"
                    )
        if self.audit_threshold is not None and self.mixture == 1.0 and self.loss != REINFORCE:
            raise ConfigError(
                f"audit_threshold: {self.audit_threshold:g} has no effect with gamma 1.0 and loss "
                f"{self.loss}, with which the policy learns nothing from the ERM"
            )
        if self.num_env_runners == 0 and self.num_gpus_per_env_runner:
            raise ConfigError(
                f"num_gpus_per_env_runner: {self.num_gpus_per_env_runner:g} has no effect with "
                "num_env_runners 0 (expected at least 1)"
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
        if self.kl_target is not None and self.query_budget is None:
            raise ConfigError(
                f"kl_target: {self.kl_target:g} is what is reached at the end of query_budget, "
                "which is null (expected a number of labels)"
            )
        self.policy_train_config().validate()  # the loss's options among others
        if self.loss == REINFORCE:
            extremes = ReinforceOptions(**self.loss_config).extremes
            if extremes is not None and extremes > self.num_candidates:
                raise ConfigError(
                    f"loss_config: extremes: {extremes} is more than num_candidates "
                    f"{self.num_candidates}"
                )

        if self.env != "text_duel/TLDR-v0":
            raise ConfigError(
                f"env: {self.env!r} is no text-duel environment (expected 'text_duel/TLDR-v0')"
            )
        prompts = self.read_prompts()
        oracle = self.env_config.get("oracle", "embedding")
        if self.measure_candidate_scores and not oracle_class(oracle).has_scores:
            raise ConfigError(f"measure_candidate_scores: the oracle {oracle} has no scores")
        if self.measure_online_win_rate and oracle_class(oracle).asks_people:
            raise ConfigError(
                "measure_online_win_rate: true has no effect with the oracle people, who are "
                "asked for labels alone (expected false)"
            )
        if self.evaluation_samples and oracle_class(oracle).asks_people:
            raise ConfigError(
                f"evaluation_samples: {self.evaluation_samples} has no effect with the oracle "
                "people, who compare greedy responses at the end (expected 0)"
            )
        if self.evaluation_questions:
            asks = f"evaluation_questions: {self.evaluation_questions}"
            if not oracle_class(oracle).asks_people:
                raise ConfigError(
                    f"{asks} has no effect with the oracle {oracle}, which every evaluation asks "
                    "(expected 0)"
                )
            if not self.update_policy:
                raise ConfigError(
                    f"{asks} has no effect with update_policy false: the policy is the initial one"
                )
            if self.evaluation_questions > len(prompts.held_out):
                raise ConfigError(
                    f"{asks} is more than the {len(prompts.held_out)} held-out prompts"
                )
        check_sampler(self.sampler, self.sampler_config)
        policy = check_policy(self.policy_model, self.chat_template)
        if policy is not None:
            check_sampled_model(self.sampler, policy, on_gpu=self.samples_on_gpu)
        check_encoder(self.erm_encoder)
        for note in prompts.notes:
            if log_once(note):  # it is checked more than once
                logger.warning("%s", note)

    # -- What the parts are built from; more is in `derived.py` -------------------------

    def read_prompts(self) -> PromptSplit:
        """The prompts that are trained on, and those that are held out."""
        return read_prompts(
            self.env_config,
            split=self.evaluation_split,
            share=self.held_out_share,
            num_held_out=self.evaluation_num_prompts,
        )

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
            keys=values_of(self, Labelling),
            num_threads=self.threads_per_env_runner,
            query_budget=self.query_budget,
            evaluates=self.evaluation_questions > 0,
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
        gamma = self.mixture
        constant_from = 0 if isinstance(gamma, int | float) else gamma[-1][0]
        queries, rounds = float(num_oracle_queries), 0
        while queries < self.query_budget:
            step = gamma_at(gamma, int(queries)) * self.prompts_per_round
            if step <= 0:
                raise ConfigError(
                    "gamma: 0 asks the oracle nothing: the query budget is never used; "
                    "set lr_schedule constant and query_budget null, or a larger gamma"
                )
            if queries >= constant_from:
                return rounds + math.ceil((self.query_budget - queries) / step)
            queries += step
            rounds += 1
        return rounds

    def policy_train_config(self) -> PolicyTrainConfig:
        """The Ray Train run's configuration, but for its model's folder and its storage."""
        rounds = self.expected_rounds()
        return PolicyTrainConfig(
            **vars(values_of(self, PreferenceLearning)),
            total_steps=None if rounds is None else rounds * (1 + self.policy_replay),
            threads_per_worker=self.threads_per_train_worker,
            seed=self.seed,
        )
