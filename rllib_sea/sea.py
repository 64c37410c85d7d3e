"""SEA, sample-efficient alignment, as an RLlib algorithm (arXiv 2411.01493).

The Algorithm owns four things and moves data between them:

    env runners     the policy's engine, and the ERM for scoring
    labelling       the labeller, which asks the oracle and writes the preference log
    reward model    the epistemic reward model (ERM): its labels, and the learner group that fits it
    policy          the long-lived Ray Train run that updates it

`SEA.training_step` is the paper's Algorithm 2, one round per call.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
)
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.tune.result import SHOULD_CHECKPOINT
from ray.util.debug import log_once

from rllib_sea.checkpointing.algorithm import PART_FOLDER, CheckpointedAlgorithm
from rllib_sea.config import SEAConfig
from rllib_sea.duels.plan import Counts, RoundPlan, plan_round
from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import EvaluatedPrompt, Measurement, Proposal
from rllib_sea.duels.samples import NO_SAMPLES, append_duels, append_responses, sizes, truncate
from rllib_sea.duels.selection import ONE_TEXT, SelectedDuel, select_duels, usable_proposals
from rllib_sea.duels.skipped import SkippedPrompts
from rllib_sea.env_runners.calls import EnvRunnerCalls
from rllib_sea.env_runners.sampling import Sampling
from rllib_sea.evaluation import HeldOut, evaluate
from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.labelling.labelling import LabelledRound, Labelling
from rllib_sea.messages import Messages
from rllib_sea.metrics import DashboardMetrics, duel_metrics, oracle_metrics, skip_metrics
from rllib_sea.policy.model_folder import check_policy_folder
from rllib_sea.policy.prompt_sets import PromptSets
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_update.part import PolicyUpdate
from rllib_sea.policy_update.trainer import FixedPolicy, PolicyTrainer
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.preference_log.records import Question, RunRecord
from rllib_sea.preference_models import DROP
from rllib_sea.reward_model.group_fit import GroupFit
from rllib_sea.reward_model.initial_preferences import read_initial_preferences
from rllib_sea.reward_model.part import RewardModelPart
from rllib_sea.settings.declaration import values_of
from rllib_sea.settings.reward_model import RewardModel


class SEA(CheckpointedAlgorithm):
    """Sample-efficient alignment with Thompson sampling and an epistemic reward model."""

    config: SEAConfig
    _counts: Counts
    _skipped: SkippedPrompts
    labelling: Labelling
    policy: PolicyUpdate
    reward_model: RewardModelPart

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> SEAConfig:
        return SEAConfig()

    # -- Algorithm 2 ------------------------------------------------------------------

    @override(Algorithm)
    def training_step(self) -> None:
        """One round: proposals, duels, labels, ERM update, policy update."""
        if self._is_done():
            raise RuntimeError(
                f"query_budget {self.config.query_budget} is used: the run has ended"
            )
        plan = self._plan_round()  # line 2
        with self._stage("propose"):  # line 3
            proposals = self._propose(plan)
        with self._stage("select"):  # lines 4 and 5
            usable, skipped = usable_proposals(proposals, self.config.num_candidates)
            selected, skipped[ONE_TEXT] = self._select(plan, usable)
            num_skipped = self._skipped.check(bool(selected or not plan.prompts), skipped)
        with self._stage("label"):  # line 6
            labelled = self.labelling.label(self._counts.round, selected, self._rescore)
        counts = self._counts_after(plan, num_skipped, labelled)
        with self._stage("erm"):  # line 7
            erm_metrics = self.reward_model.health(usable, labelled.duels)
            erm_metrics |= self._update_reward_model(labelled.duels, counts)
        with self._stage("policy"):  # line 8
            policy_metrics = self._update_policy(labelled.duels)
        with self._stage("measure"):
            measurement = self._measure(labelled.asked, counts)
        append_duels(self.folder, labelled.duels)
        self._counts = dataclasses.replace(counts, round=counts.round + 1)
        self._log(
            "duels",
            {"gamma": plan.gamma, "num_late_labels": labelled.num_late}
            | duel_metrics(proposals, labelled.asked, labelled.duels)
            | skip_metrics(skipped)
            | self._oracle_metrics(labelled.asked, measurement),
        )
        self._log("reward_model", erm_metrics)
        self._log("policy", policy_metrics)

    def _plan_round(self) -> RoundPlan:
        """The round's prompts, and which of their pairs the ERM labels."""
        config = self.config
        return plan_round(
            self._counts,
            num_prompts=len(self._prompts.trainable),
            prompts_per_round=config.prompts_per_round,
            prompt_pool_size=config.prompt_pool_size,
            query_budget=config.query_budget,
            gamma=config.gamma,
            seed=config.seed,
        )

    def _propose(self, plan: RoundPlan) -> list[Proposal]:
        """Has the env runners sample and score."""
        indices = [self._prompts.trainable[place] for place in plan.prompts]
        proposed = self._sampling.propose(self._counts.round, indices, self.policy.sampling)
        if not math.isnan(proposed.sampler_gap):
            self._log("policy", {"sampler_gap": proposed.sampler_gap})
        self._log("seconds", {f"propose_{k}": v for k, v in proposed.seconds.items()})
        return proposed.proposals

    def _select(
        self, plan: RoundPlan, proposals: Sequence[Proposal]
    ) -> tuple[list[SelectedDuel], list[str]]:
        """Selects the duels; also returns the prompts whose candidates are one text."""
        config = self.config
        implicit_rewards = None
        if proposals and config.needs_implicit_rewards:
            implicit_rewards = self.policy.implicit_rewards(proposals)
        return select_duels(
            proposals,
            implicit_rewards,
            strategy=config.exploration_strategy,
            options=config.strategy_config,
            synthetic=plan.synthetic,
            synthetic_pair=config.synthetic_pair,
            acquisition=config.prompt_acquisition,
            num_duels=plan.num_duels,
            seed=config.seed,
            round_index=self._counts.round,
        )

    def _rescore(self, questions: Sequence[Question]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and rewards of logged responses, which this round did not sample."""
        return self._sampling.rescore(questions, self.policy.sampling)

    def _counts_after(self, plan: RoundPlan, num_skipped: int, labelled: LabelledRound) -> Counts:
        """What the run has done once the round's labels are there."""
        counts = self._counts
        return dataclasses.replace(
            counts,
            num_oracle_queries=labelled.num_answered,
            num_open_questions=labelled.num_open,
            num_prompts_drawn=counts.num_prompts_drawn + len(plan.prompts),
            num_synthetic_pairs=counts.num_synthetic_pairs
            + sum(duel.synthetic for duel in labelled.asked),
            num_skipped_prompts=counts.num_skipped_prompts + num_skipped,
        )

    def _update_reward_model(self, duels: Sequence[Duel], counts: Counts) -> dict[str, float]:
        """Adds the round's oracle labels to the ERM's, and fits it to them."""
        # The prior fades with all labels that the ERM learns from, those that the run started
        # from included: with its own alone, its first rounds would pull a warm ERM back.
        num_labels = counts.num_oracle_queries + counts.num_initial_preferences
        metrics = self.reward_model.learn(duels, counts.round, num_labels)
        if metrics:
            self._sampling.publish_reward_model(self._fit.weights())
        return metrics

    def _update_policy(self, duels: Sequence[Duel]) -> dict[str, float]:
        """One step of the direct loss on the round's pairs, and those on replayed labels."""
        round_index = self._counts.round
        labelled = []
        if self.config.policy_replay:
            labelled = self.labelling.learned(round_index + 1)
        pairs = [duel.preference_pair() for duel in duels]
        return self.policy.learn(round_index, pairs, labelled, self.labelling.pairs)

    def _measure(self, asked: Sequence[SelectedDuel], counts: Counts) -> Measurement:
        """Asks the oracle what is not learned from: counted apart, as evaluation questions."""
        try:
            measurement = self.labelling.measuring.round(
                asked,
                [self._prompts.by_id[duel.proposal.prompt_id] for duel in asked],
                online_wins=self.config.measure_online_win_rate,
                candidate_scores=self.config.measure_candidate_scores,
            )
        except OracleAwayError as error:
            self._messages.warn(f"round {self._counts.round} is not measured: {error}")
            return Measurement()
        counts.num_evaluation_questions += measurement.num_questions
        return measurement

    def _oracle_metrics(
        self, asked: Sequence[SelectedDuel], measurement: Measurement
    ) -> dict[str, float]:
        """:func:`rllib_sea.metrics.oracle_metrics`, with regret also summed over the run."""
        metrics = oracle_metrics(asked, measurement)
        if "sum_pool_regret" in metrics:
            self._cumulative_pool_regret += metrics.pop("sum_pool_regret")
            metrics["cumulative_pool_regret"] = self._cumulative_pool_regret
        return metrics

    # -- Set-up and end ---------------------------------------------------------------

    @override(Algorithm)
    def setup(self, config: SEAConfig) -> None:
        self._messages = Messages()
        self._train_folder = self.folder / "train"
        for left_over in (self._train_folder, self.folder / PART_FOLDER):  # of a killed run
            shutil.rmtree(left_over, ignore_errors=True)

        config = self.config
        model_path = config.policy_model_path()
        check_policy_folder(model_path)
        self._prompts = PromptSets(
            model_path,
            config.policy_model,
            chat_template=config.chat_template,
            max_new_tokens=config.max_new_tokens,
            env_config=config.env_config,
            evaluation_env_config=config.evaluation_env_config(),
        )
        self.policy_trainer: PolicyTrainer | FixedPolicy = FixedPolicy()
        if config.update_policy:
            self.policy_trainer = PolicyTrainer(
                dataclasses.replace(
                    config.policy_train_config(),
                    model_path=str(model_path),
                    storage_path=str(self._train_folder),
                    probes=self._prompts.probes,
                )
            )
        try:
            self.policy_trainer.start()  # starts up while the env runners do
            super().setup(config)
            self.make_parts(self.folder / LOG_FILE)
            if self.policy.is_trained:
                with self._stage("rehearsal"):
                    self._sampling.rehearse_sync()
        except BaseException:
            self.cleanup()
            raise
        self._dashboard = DashboardMetrics(self.folder.name)

    def make_parts(self, log: Path) -> None:
        """Makes the parts of a run that begins, on the processes that are there.

        Args:
            log: The preference log's file.
        """
        config = self.config
        self._counts = Counts()
        self._skipped = SkippedPrompts(self._messages.warn)
        self._ended_by: OracleAwayError | None = None
        self._cumulative_pool_regret = 0.0
        self._evaluation: dict[str, float] | None = None
        run = RunRecord(self.folder.name, config.seed, config.policy_model, self._prompts.chat)
        self.labelling = Labelling(
            config.labeller_settings(log, run),
            num_gpus=config.num_gpus_for_labeller,
            strategy=config.exploration_strategy,
            ties=config.ties != DROP,
            warn=self._messages.warn,
        )
        self.policy = PolicyUpdate(
            self.policy_trainer,
            sync_interval=config.policy_sync_interval,
            needs_initial=config.num_reference_candidates > 0,
            replay=config.policy_replay,
            pairs_per_step=config.prompts_per_round,
            seed=config.seed,
            folder=self.folder,
        )
        self._fit = GroupFit(self.learner_group, self.metrics)
        self.reward_model = RewardModelPart(
            values_of(config, RewardModel), config.seed, self._fit, self._messages.warn
        )
        self._sampling = Sampling(
            EnvRunnerCalls(self.env_runner_group, config.sample_timeout_s),
            config.num_env_runners,
            self.policy.weights,
            from_reference=config.num_reference_candidates > 0,
        )
        self._sampling.publish_reward_model(self._fit.weights())
        self._sampling.start()
        self.held_out = HeldOut(
            self._sampling,
            self.labelling.measuring,
            self.policy,
            self._prompts,
            config.evaluation_kl_prompts,
        )

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        if self.held_out.get_state() is None:
            # A run that was stopped before its first checkpoint begins anew in its old folder.
            truncate(self.folder, NO_SAMPLES)
            self.held_out.baseline()
        # RLlib looks for episodes in evaluation results and warns, once, that there are
        # none; duels have none.
        log_once("no_eval_results")
        self._evaluation = None
        if self._ended_by is not None:
            raise self._ended_by
        # A checkpoint has them among its labels.
        initial = self.config.initial_preferences
        if initial and self._counts.round == 0 and not self._counts.num_initial_preferences:
            self._learn_initial_preferences(initial)
        result = self._step_or_stop()
        # RLlib repeats an evaluation in the rounds after it, and gives NaN for metrics that a
        # round did not have: a result has what was measured in its round.
        for group in ("duels", "reward_model", "policy", "seconds"):
            values = result.pop(group, {})
            result[group] = {k: float(v) for k, v in values.items() if not math.isnan(v)}
        result.pop(EVALUATION_RESULTS, None)
        if self._evaluation is not None:
            result[EVALUATION_RESULTS] = self._evaluation
        result["done"] = self._is_done()
        # RLlib's metrics are floats; counts are not.
        result |= self._messages.take() | self._counters_now()
        result["query_budget"] = self.config.query_budget
        result["rounds_left"] = self.config.expected_rounds(self._counts.num_oracle_queries)
        result["seconds"]["round"] = time.perf_counter() - start
        self._dashboard.publish(result)
        return result

    def _step_or_stop(self) -> dict[str, Any]:
        """A round, and the evaluation that is due; a checkpoint if the oracle is away."""
        result: dict[str, Any] = {}
        try:
            result = super().step()
            if self._is_done() and self._evaluation is None:
                evaluate(self)
        except OracleAwayError as error:
            if self._is_done():
                self._messages.warn(
                    f"{error}; all labels are there and learned from, the last evaluation is "
                    "not: `rllib evaluate` of the checkpoint makes it"
                )
            elif self._storage is None:
                raise
            else:
                # Tune writes a checkpoint with this result, and asks for another: that one raises.
                self._ended_by = error
                self._messages.warn(f"{error}; the run stops, `--resume` goes on with it")
                result = {SHOULD_CHECKPOINT: True}
        return result

    def _learn_initial_preferences(self, log: str) -> None:
        """Has the ERM learn from labels that exist, before the first round.

        They are no queries of this run, and not in its preference log.

        Args:
            log: The preference log that they are in.
        """
        config, start = self.config, time.perf_counter()
        tokenizer = PromptTokenizer(config.policy_model_path(), chat=config.chat_template)
        preferences = read_initial_preferences(
            log, tokenizer, config.policy_model, self._messages.warn
        )
        features = self._sampling.encode(
            [p.prompt for p in preferences],
            [p.prompt_token_ids for p in preferences],
            [(p.chosen, p.rejected) for p in preferences],
        )
        self.reward_model.start_from(features, config.prompts_per_round)
        self._counts.num_initial_preferences = len(features)
        self._sampling.publish_reward_model(self._fit.weights())
        seconds = time.perf_counter() - start
        self._log("seconds", {"initial_preferences": seconds})
        self._messages.note(
            f"the ERM starts from {len(features)} labels of {log} ({seconds:.1f} s)"
        )

    def _counters_now(self) -> dict[str, int]:
        return {
            **dataclasses.asdict(self._counts),
            "num_prompts_too_long": self._prompts.num_too_long,
            "policy_steps": self.policy_trainer.version,
        }

    def _is_done(self) -> bool:
        budget = self.config.query_budget
        return budget is not None and self._counts.num_oracle_queries >= budget

    @override(Algorithm)
    def cleanup(self) -> None:
        super().cleanup()
        if hasattr(self, "labelling"):
            self.labelling.close()
        if hasattr(self, "policy_trainer"):
            self.policy_trainer.stop()
            shutil.rmtree(self._train_folder, ignore_errors=True)

    # -- Evaluation -------------------------------------------------------------------

    @classmethod
    @override(Algorithm)
    def _should_create_evaluation_env_runners(cls, eval_config: AlgorithmConfig) -> bool:
        # The training env runners evaluate, too: a second engine would not fit beside them.
        return False

    def evaluate_held_out(self) -> list[EvaluatedPrompt]:
        """The current policy's responses to the held-out prompts, compared."""
        return self.held_out.evaluate(self._counts.round)

    def record_evaluation(
        self, evaluated: Sequence[EvaluatedPrompt], results: dict[str, float]
    ) -> None:
        """Keeps an evaluation's results and sample responses, and counts its questions."""
        outcomes = [o for prompt in evaluated for o in (prompt.greedy, prompt.best_of_n) if o]
        self._counts.num_evaluation_questions += sum(o.num_questions for o in outcomes)
        self._evaluation = results
        append_responses(self.folder, evaluated, self._counts.num_oracle_queries)

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Takes env runners that came back into service; tasks bring them up to date."""
        return env_runner_group.probe_unhealthy_env_runners()

    # -- State ------------------------------------------------------------------------

    @override(Algorithm)
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return [*super().get_checkpointable_components(), ("policy", self.policy_trainer)]

    @override(Algorithm)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        (state,), kwargs = super().get_ctor_args_and_kwargs()
        if self._counts.num_initial_preferences:
            # The checkpoint has them: it is of use without the log that they came from.
            state = state | {"initial_preferences": None}
        return (state,), kwargs

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
                "reward_model": self.reward_model.get_state(),
                "counts": dataclasses.asdict(self._counts),
                "baseline": self.held_out.get_state(),
                "cumulative_pool_regret": self._cumulative_pool_regret,
                "sampling_policy": self.policy.get_state(),
                "samples": sizes(self.folder),
            }
        return state

    @override(Algorithm)
    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        if "sea" in state:
            ours = state["sea"]
            self.reward_model.set_state(ours["reward_model"])
            self._counts = Counts(**ours["counts"])
            self.held_out.set_state(ours["baseline"])
            self._cumulative_pool_regret = ours["cumulative_pool_regret"]
            self.policy.set_state(ours["sampling_policy"])
            # Rounds after the checkpoint are done again, and write theirs again.
            truncate(self.folder, ours["samples"])

    @override(CheckpointedAlgorithm)
    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        self.policy.restored()
        self._sampling.publish_reward_model(self._fit.weights())
        copy = Path(path) / LOG_FILE
        if copy.is_file():
            self.labelling.inherit(copy)
        counts = self._counts
        self.labelling.log.check_count(counts.round, counts.num_oracle_queries)

    @override(CheckpointedAlgorithm)
    def add_to_checkpoint(self, folder: Path) -> None:
        self.labelling.copy_log_to(folder / LOG_FILE)

    # -- Metrics ----------------------------------------------------------------------

    def _log(self, group: str, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.metrics.log_value((group, key), value, window=1)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._log("seconds", {name: time.perf_counter() - start})
