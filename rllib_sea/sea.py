"""SEA, sample-efficient alignment, as an RLlib algorithm (arXiv 2411.01493).

The Algorithm owns four things and moves data between them:

    env runners         the policy's engine, the ERM for scoring, the environment's oracle
    learner group       the epistemic reward model (ERM)
    policy trainer      the long-lived Ray Train run that updates the policy
    replay              the oracle's labels

`SEA.training_step` is the paper's Algorithm 2, one round a call.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_LEARNER,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.result import SHOULD_CHECKPOINT, TIME_TOTAL_S, TRAINING_ITERATION
from ray.util.debug import log_once

import text_duel
from rllib_sea import checkpointing
from rllib_sea.config import SEAConfig
from rllib_sea.duels.records import Duel, PreferencePair
from rllib_sea.duels.rounds import (
    Answer,
    EvaluatedPrompt,
    Measurement,
    Pool,
    Proposal,
    ProposalShare,
    ProposalTask,
    Question,
)
from rllib_sea.duels.samples import (
    NO_SAMPLES,
    append_duels,
    append_responses,
    sizes,
    truncate,
)
from rllib_sea.duels.selection import (
    INCOMPLETE,
    NON_FINITE,
    ONE_TEXT,
    SKIP_REASONS,
    SelectedDuel,
    select_duels,
    usable_proposals,
)
from rllib_sea.env_runners.calls import EnvRunnerCalls, OracleAwayError
from rllib_sea.evaluation import evaluate
from rllib_sea.exploration.mixing import draw_synthetic, gamma_at
from rllib_sea.labelling.questions import (
    answer_record,
    as_asked,
    logged_answer,
    logged_pair,
    question_record,
)
from rllib_sea.metrics import (
    DashboardMetrics,
    duel_metrics,
    oracle_metrics,
    reward_model_metrics,
    skip_metrics,
)
from rllib_sea.policy.audit import REHEARSAL_VERSION, probe_tokens
from rllib_sea.policy.model_folder import check_policy_folder
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_update.feed import WhichWeights
from rllib_sea.policy_update.learner import NonFiniteUpdateError
from rllib_sea.policy_update.replay import draw_replayed
from rllib_sea.policy_update.scores import PromptResponses
from rllib_sea.policy_update.trainer import FixedPolicy, PolicyTrainer
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog
from rllib_sea.preference_log.records import QuestionRecord, RunRecord
from rllib_sea.randomness import Stream, generator, generators, prompt_order
from rllib_sea.reward_model.ensemble import regularisation_strength
from rllib_sea.reward_model.health import CalibrationWindow, CollapseWatch
from rllib_sea.reward_model.initial_preferences import read_initial_preferences
from rllib_sea.reward_model.module import (
    CHOSEN_FEATURES,
    MEMBER_MASKS,
    PREFERENCES,
    REJECTED_FEATURES,
    STRENGTH,
    WEIGHTS,
)
from rllib_sea.reward_model.replay import PreferenceReplay, draw_mask
from text_duel.config import label_rule
from text_duel.errors import ConfigError
from text_duel.labels import LabelRule

logger = logging.getLogger(__name__)

# Of a checkpoint that is being written, in the run's folder.
PART_FOLDER = ".checkpoint.part"
# A run whose candidates are always one text would never use its budget.
MAX_ROUNDS_WITHOUT_DUELS = 10
# Labels in one call to an env runner, where a run starts from labels that exist.
INITIAL_LABELS_PER_CALL = 256


@dataclasses.dataclass
class Counts:
    """What a run has done so far; see docs/metrics.md."""

    round: int = 0
    num_oracle_queries: int = 0
    num_prompts_drawn: int = 0
    num_synthetic_pairs: int = 0
    num_skipped_prompts: int = 0
    num_evaluation_questions: int = 0
    num_initial_preferences: int = 0


@dataclasses.dataclass(frozen=True)
class PublishedPolicy:
    """A version of the policy's weights that env runners can fetch.

    Attributes:
        version: The number of updates made.
        ref: Of :class:`rllib_sea.policy.audit.PublishedWeights` in Ray's object store; None for
            a policy that is not trained: engines start with it.
    """

    version: int
    ref: Any


@dataclasses.dataclass(frozen=True)
class RoundPlan:
    """A round's prompts.

    Attributes:
        gamma: The mixture ratio of this round.
        num_duels: How many duels it may have.
        prompt_indices: Its prompts in the order of their positions, as indices into the
            training prompts; more than ``num_duels`` where prompts are chosen from a pool.
        synthetic: For each position, whether the ERM labels the pair.
        counts_before: What the run had done when the round began.
    """

    gamma: float
    num_duels: int
    prompt_indices: list[int]
    synthetic: dict[int, bool]
    counts_before: Counts


class SEA(Algorithm):
    """Sample-efficient alignment with Thompson sampling and an epistemic reward model."""

    config: SEAConfig
    _counts: Counts
    _initial_policy: PublishedPolicy | None
    _label_rule: LabelRule
    _published_policy: PublishedPolicy | None
    _sampling_policy: PublishedPolicy
    _preferences: PreferenceLog
    _runners: EnvRunnerCalls

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
            self._check_skipped(bool(selected), skipped)
        with self._stage("label"):  # line 6
            selected, duels = self._label(plan, selected)
        with self._stage("erm"):  # line 7
            health = self._reward_model_health(usable, duels)
            erm_metrics = health | self._update_reward_model(duels)
        with self._stage("policy"):  # line 8
            policy_metrics = self._update_policy([duel.preference_pair() for duel in duels])
        with self._stage("measure"):
            measurement = self._measure(selected)
        self._counts.round += 1
        append_duels(self.folder, duels)
        self._log("duels", {"gamma": plan.gamma} | duel_metrics(proposals, selected, duels))
        self._log("duels", skip_metrics(skipped) | self._oracle_metrics(selected, measurement))
        self._log("reward_model", erm_metrics)
        self._log("policy", policy_metrics)

    def _plan_round(self) -> RoundPlan:
        """Draws the round's prompts, and which of their pairs the ERM labels."""
        config, counts = self.config, self._counts
        gamma = gamma_at(config.gamma, counts.num_oracle_queries)
        num_duels = config.prompts_per_round
        synthetic = draw_synthetic(
            gamma, generators(config.seed, counts.round, range(num_duels), Stream.MIXING)
        )
        if config.query_budget is not None:
            left = config.query_budget - counts.num_oracle_queries
            asked = np.cumsum([not ours for ours in synthetic])
            if asked[-1] > left:
                num_duels = int(np.searchsorted(asked, left, side="right"))
        num_prompts = num_duels
        if config.prompt_pool_size is not None:  # with gamma 1: nothing is synthetic
            num_prompts = config.prompt_pool_size
            synthetic = [False] * num_prompts
        drawn = prompt_order(
            len(self._trainable_prompts), config.seed, counts.num_prompts_drawn, num_prompts
        )
        before = dataclasses.replace(counts)
        counts.num_prompts_drawn += num_prompts
        return RoundPlan(
            gamma=gamma,
            num_duels=num_duels,
            prompt_indices=[self._trainable_prompts[i] for i in drawn],
            synthetic=dict(enumerate(synthetic[:num_prompts])),
            counts_before=before,
        )

    def _propose(self, plan: RoundPlan) -> list[Proposal]:
        """Has the env runners sample and score; a dead runner's task goes to another."""
        weights = self._weights(self._sampling_policy)
        calls = [
            {
                "task": ProposalTask(
                    round=self._counts.round,
                    positions=tuple(int(i) for i in chunk),
                    prompt_indices=tuple(plan.prompt_indices[i] for i in chunk),
                ),
                "weights": weights,
            }
            for chunk in self._shares(len(plan.prompt_indices))
        ]
        shares: list[ProposalShare] = self._runners.call("sample", calls)
        gap = max(share.sampler_gap for share in shares)
        if not math.isnan(gap):
            self._log("policy", {"sampler_gap": gap})
        for stage in shares[0].seconds:
            slowest = max(share.seconds[stage] for share in shares)
            self.metrics.log_value(("seconds", f"propose_{stage}"), slowest, window=1)
        return [proposal for share in shares for proposal in share.proposals]

    def _select(
        self, plan: RoundPlan, proposals: Sequence[Proposal]
    ) -> tuple[list[SelectedDuel], list[str]]:
        """Selects the duels; also returns the prompts whose candidates are one text."""
        config = self.config
        implicit_rewards = None
        if proposals and config.needs_implicit_rewards:
            implicit_rewards = self._implicit_rewards(proposals)
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

    def _label(
        self, plan: RoundPlan, selected: Sequence[SelectedDuel]
    ) -> tuple[list[SelectedDuel], list[Duel]]:
        """Asks the oracle about the real duels; the ERM has labelled the others.

        Every question is in the preference log before it is asked, every answer as soon as it
        comes. A round that was asked before, by a run that was stopped in it, is not asked again.

        Returns:
            The duels as they were asked, and those of them that have a label.

        Raises:
            OracleAwayError: The round can be tried again.
        """
        round_index = self._counts.round
        questions = [
            question_record(
                duel,
                round_index,
                strategy=self.config.exploration_strategy,
                oracle=self._oracle_name,
                rule=self._label_rule,
            )
            for duel in selected
            if not duel.synthetic
        ]
        entries = self._preferences.ask(round_index, questions)
        asked = as_asked(entries, selected, self._prompt_indices, self._rescore)
        try:
            self._answer_pending(round_index)
        except OracleAwayError:
            self._counts = plan.counts_before
            raise
        self._counts.num_oracle_queries = self._preferences.num_queries(round_index + 1)
        self._counts.num_synthetic_pairs += sum(duel.synthetic for duel in asked)
        answers = {
            entry.question.position: logged_answer(entry.answer)
            for entry in self._preferences.round(round_index)
            if entry.answer is not None
        }
        duels = []
        for duel in asked:
            answer = None if duel.synthetic else answers[duel.proposal.position]
            if duel.synthetic or answer is not None:  # nothing is learned from a tie or a skip
                duels.append(duel.labelled(round_index, answer))
        return asked, duels

    def _answer_pending(self, round_index: int) -> None:
        """Puts a round's open questions to the oracle, and writes its answers down."""
        pending = [e.question for e in self._preferences.round(round_index) if e.answer is None]
        shares = [[pending[i] for i in chunk] for chunk in self._shares(len(pending))]
        calls = [
            {
                "round_index": round_index,
                "questions": [
                    Question(
                        position=question.position,
                        prompt_index=self._prompt_indices[question.prompt_id],
                        first=question.first.text,
                        second=question.second.text,
                    )
                    for question in share
                ],
            }
            for share in shares
        ]

        def write_down(number: int, answers: list[Answer]) -> None:
            self._preferences.answer(
                [
                    answer_record(question, answer, self._oracle_name)
                    for question, answer in zip(shares[number], answers, strict=True)
                ]
            )

        self._runners.ask_oracle("label", calls, self.config.oracle_timeout_s, write_down)

    def _rescore(self, questions: Sequence[QuestionRecord]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and rewards of logged responses, which the resumed run did not sample again."""
        call = {
            "prompt_indices": [self._prompt_indices[q.prompt_id] for q in questions],
            "prompt_token_ids": [q.prompt_token_ids for q in questions],
            "responses": [(q.first, q.second) for q in questions],
            "weights": self._weights(self._sampling_policy),
        }
        (scored,) = self._runners.call("rescore", [call])
        return scored

    def _reward_model_health(
        self, proposals: Sequence[Proposal], duels: Sequence[Duel]
    ) -> dict[str, float]:
        """How the ERM does on the round's labels before it learns from them.

        Args:
            proposals: Those with M candidates and finite rewards.
            duels: The round's.
        """
        real = [duel for duel in duels if not duel.synthetic]
        metrics = reward_model_metrics(proposals, real, self._calibration)
        warning = self._collapse_watch.update(
            metrics.get("argmax_agreement", math.nan),
            metrics.get("member_disagreement", math.nan),
        )
        if warning is not None:
            self._warn(warning)
        return metrics

    def _update_reward_model(self, duels: Sequence[Duel]) -> dict[str, float]:
        """Adds the round's oracle labels to the replay and fits the ERM to it."""
        config = self.config
        for duel in duels:
            if duel.synthetic:
                continue
            pair, winner = duel.preference_pair(), 0 if duel.first_wins else 1
            mask = self._member_mask(config.seed, duel.round, duel.position)
            self._replay.add(
                duel.features[winner],
                duel.features[1 - winner],
                mask,
                preference=pair.preference,
                weight=pair.weight,
            )
        if len(self._replay) == 0:
            return {}
        metrics = self._fit_reward_model(config.seed, self._counts.round)
        self._publish_reward_model()
        return metrics

    def _member_mask(self, seed: int, round_index: int, position: int) -> np.ndarray | None:
        """(K,) bool, which members learn from a label; None where all do."""
        config = self.config
        if config.erm_bootstrap == 1.0:
            return None
        rng = generator(seed, round_index, position, Stream.BOOTSTRAP)
        return draw_mask(config.ensemble_size, config.erm_bootstrap, rng)

    def _fit_reward_model(self, seed: int, round_index: int) -> dict[str, float]:
        """A round's minibatch updates on what is in the replay."""
        config = self.config
        size = min(config.erm_minibatch_size, len(self._replay))
        chosen, rejected, masks, preferences, weights = self._replay.minibatches(
            config.erm_minibatches, size, generator(seed, round_index, 0, Stream.REPLAY)
        )
        # The prior fades with all labels that the ERM learns from, those that the run started
        # from included: with its own alone, its first rounds would pull a warm ERM back.
        num_labels = self._counts.num_oracle_queries + self._counts.num_initial_preferences
        strength = regularisation_strength(
            config.erm_lambda, size, num_labels, config.erm_lambda_fades
        )
        columns = {
            CHOSEN_FEATURES: chosen,
            REJECTED_FEATURES: rejected,
            PREFERENCES: preferences,
            WEIGHTS: weights,
            STRENGTH: np.full(len(chosen), strength, dtype=np.float32),
        }
        if masks is not None:
            columns[MEMBER_MASKS] = masks
        batch = SampleBatch(columns)
        results = self.learner_group.update(
            batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=len(chosen)),
            minibatch_size=size,
        )
        self.metrics.aggregate(results, key="learners")
        learned = self.metrics.peek(("learners", DEFAULT_MODULE_ID))
        return {
            key: float(learned[key])
            for key in ("total_loss", "nll", "accuracy", "distance_from_start")
        }

    def _learn_initial_preferences(self, log: str) -> None:
        """Has the ERM learn from labels that exist, before the first round.

        They go into the replay, and the ERM gets as many updates as in a run that collected them.
        They are no queries of this run, and not in its preference log.

        Args:
            log: The preference log that they are in.
        """
        config = self.config
        start = time.perf_counter()
        tokenizer = PromptTokenizer(config.policy_model_path(), chat=config.chat_template)
        preferences, too_long = read_initial_preferences(log, tokenizer)
        if too_long:
            self._warn(
                f"{len(too_long)} labels of {log} are left out, longer than "
                f"{tokenizer.context_length} tokens, the context of {config.policy_model}: "
                f"{too_long[0]}{' and others' if too_long[1:] else ''}"
            )
        if not preferences:
            raise ConfigError(f"initial_preferences: no label of {log} fits the model's context")
        # No round draws from this place: what is drawn here is apart from what rounds draw.
        seed = int(generator(config.seed, 0, 1, Stream.REPLAY).integers(2**63))
        replay = PreferenceReplay()
        # Not all in one go: features of many labels are large. What a call encodes together does
        # not depend on the number of env runners.
        at_once = INITIAL_LABELS_PER_CALL * config.num_env_runners
        for first in range(0, len(preferences), at_once):
            some = preferences[first : first + at_once]
            calls = [
                {
                    "prompts": [p.prompt for p in part],
                    "prompt_token_ids": [p.prompt_token_ids for p in part],
                    "responses": [(p.chosen, p.rejected) for p in part],
                }
                for i in range(0, len(some), INITIAL_LABELS_PER_CALL)
                for part in [some[i : i + INITIAL_LABELS_PER_CALL]]
            ]
            parts: list[np.ndarray] = self._runners.call("encode", calls)
            for chosen, rejected in np.concatenate(parts):
                replay.add(chosen, rejected, self._member_mask(seed, 0, len(replay)))
        self._replay = replay
        self._counts.num_initial_preferences = len(replay)
        # All labels are there from the first update on, so the strength of the regulariser is that
        # of all: what a run that collected them would have ended with.
        for round_index in range(math.ceil(len(replay) / config.prompts_per_round)):
            self._fit_reward_model(seed, round_index)
        self._publish_reward_model()
        seconds = time.perf_counter() - start
        self.metrics.log_value(("seconds", "initial_preferences"), seconds, window=1)
        self._notes.append(f"the ERM starts from {len(replay)} labels of {log} ({seconds:.1f} s)")

    def _update_policy(self, pairs: list[PreferencePair]) -> dict[str, float]:
        """One step of the direct loss on the mixed batch, then those on replayed labels."""
        metrics = self._policy_step(pairs) if pairs else {}
        if self.config.update_policy:
            metrics |= self._replay_labels()
        interval = self.config.policy_sync_interval
        if interval is not None and (self._counts.round + 1) % interval == 0:
            self._sampling_policy = self._current_policy()
            if interval == 1 and not self.config.num_reference_candidates:
                self._initial_policy = None  # it is published again if it is wanted again
        return metrics

    def _replay_labels(self) -> dict[str, float]:
        """``policy_replay`` further steps, each on pairs drawn from all labels so far."""
        config, round_index = self.config, self._counts.round
        if config.policy_replay == 0:
            return {}
        labelled = self._preferences.decided(round_index + 1)
        if not labelled:
            return {}
        losses, ages = [], []
        for step in range(config.policy_replay):
            rng = generator(config.seed, round_index, step, Stream.POLICY_REPLAY)
            drawn = draw_replayed(len(labelled), config.prompts_per_round, rng)
            entries = self._preferences.entries([labelled[i] for i in drawn])
            losses.append(self._policy_step([logged_pair(entry) for entry in entries])["loss"])
            ages += [round_index - entry.question.round for entry in entries]
        return {"replay_loss": float(np.mean(losses)), "replay_age": float(np.mean(ages))}

    def _policy_step(self, pairs: list[PreferencePair]) -> dict[str, float]:
        """One step of the direct loss, in the Ray Train run."""
        try:
            return self.policy_trainer.update(pairs)
        except NonFiniteUpdateError as error:
            path = self.folder / f"non_finite_round_{self._counts.round}.json"
            path.write_text(json.dumps([dataclasses.asdict(pair) for pair in pairs]))
            raise RuntimeError(f"{error}; the step's pairs are in {path}") from error

    def _measure(self, selected: Sequence[SelectedDuel]) -> Measurement:
        """Asks the oracle what is not learned from: counted apart, as evaluation questions."""
        config = self.config
        responses: list[tuple[int, str]] = []
        if config.measure_online_win_rate:
            responses = [
                (duel.proposal.prompt_index, response.text)
                for duel in selected
                if not duel.synthetic
                for response in duel.responses
            ]
        pools: list[Pool] = []
        if config.measure_candidate_scores:
            pools = [
                Pool(duel.proposal.prompt_index, tuple(c.text for c in duel.proposal.candidates))
                for duel in selected
            ]
        calls = [
            {"responses": [responses[i] for i in some], "pools": [pools[i] for i in others]}
            for some, others in zip_longest(
                self._shares(len(responses)), self._shares(len(pools)), fillvalue=()
            )
        ]
        try:
            parts: list[Measurement] = self._runners.ask_oracle("measure", calls)
        except OracleAwayError as error:
            self._warn(f"round {self._counts.round} is not measured: {str(error).splitlines()[0]}")
            return Measurement()
        self._counts.num_evaluation_questions += sum(part.num_questions for part in parts)
        return Measurement(
            online_wins=[win for part in parts for win in part.online_wins],
            pool_scores=[scores for part in parts for scores in part.pool_scores],
        )

    def _oracle_metrics(
        self, selected: Sequence[SelectedDuel], measurement: Measurement
    ) -> dict[str, float]:
        """:func:`rllib_sea.metrics.oracle_metrics`, with regret also summed over the run."""
        metrics = oracle_metrics(selected, measurement)
        if "sum_pool_regret" in metrics:
            self._cumulative_pool_regret += metrics.pop("sum_pool_regret")
            metrics["cumulative_pool_regret"] = self._cumulative_pool_regret
        return metrics

    def _implicit_rewards(self, proposals: Sequence[Proposal]) -> np.ndarray:
        """(B, M) ``log pi - log pi_ref`` of each candidate, by the current policy."""
        scores = self.policy_trainer.score(
            [
                PromptResponses(p.prompt_token_ids, tuple(c.token_ids for c in p.candidates))
                for p in proposals
            ]
        )
        return scores.implicit_rewards.reshape(len(proposals), -1)

    def _check_skipped(self, has_duels: bool, skipped: Mapping[str, Sequence[str]]) -> None:
        """Counts and warns of prompts without a duel; ends a run that gets nowhere."""
        self._counts.num_skipped_prompts += sum(map(len, skipped.values()))
        for reason in (INCOMPLETE, NON_FINITE):
            if skipped[reason] and reason not in self._warned:
                self._warned.add(reason)
                self._warn(
                    f"a prompt without a duel, {skipped[reason][0]!r}: {SKIP_REASONS[reason]}; "
                    f"from now on see duels/num_skipped_{reason}"
                )
        if has_duels:
            self._rounds_without_duels = 0
            return
        self._rounds_without_duels += 1
        if self._rounds_without_duels == MAX_ROUNDS_WITHOUT_DUELS:
            reasons = [f"{SKIP_REASONS[r]}: {len(ids)}" for r, ids in skipped.items() if ids]
            raise RuntimeError(
                f"{MAX_ROUNDS_WITHOUT_DUELS} rounds in a row without a duel "
                f"(prompts of the last one: {'; '.join(reasons)})"
            )

    def _warn(self, text: str) -> None:
        """Tells the user: in the log, and with the round's result."""
        logger.warning("%s", text)
        self._warnings.append(text)

    def _log(self, group: str, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.metrics.log_value((group, key), value, window=1)

    def _counters_now(self) -> dict[str, int]:
        return {
            **dataclasses.asdict(self._counts),
            "num_prompts_too_long": self._num_prompts_too_long,
            "policy_steps": self.policy_trainer.version,
        }

    # -- Set-up and end ---------------------------------------------------------------

    @override(Algorithm)
    def setup(self, config: SEAConfig) -> None:
        self._replay = PreferenceReplay()
        self._calibration = CalibrationWindow()
        self._collapse_watch = CollapseWatch()
        self._counts = Counts()
        self._rounds_without_duels = 0
        self._ended_by: OracleAwayError | None = None
        self._warned: set[str] = set()
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._cumulative_pool_regret = 0.0
        self._baseline: list[str] | None = None
        self._evaluation: dict[str, float] | None = None
        self._erm_version = 0

        self._train_folder = self.folder / "train"
        for left_over in (self._train_folder, self.folder / PART_FOLDER):  # of a killed run
            shutil.rmtree(left_over, ignore_errors=True)
        model_path = self.config.policy_model_path()
        check_policy_folder(model_path)
        probes = self._find_trainable_prompts(model_path)
        self.policy_trainer: PolicyTrainer | FixedPolicy = FixedPolicy()
        if self.config.update_policy:
            self.policy_trainer = PolicyTrainer(
                dataclasses.replace(
                    self.config.policy_train_config(),
                    model_path=str(model_path),
                    storage_path=str(self._train_folder),
                    probes=probes,
                )
            )
        self._initial_policy = None
        self._published_policy = None
        self._label_rule = label_rule(self.config.env_config)
        self._preferences = PreferenceLog(
            self.folder / LOG_FILE,
            RunRecord(
                run_id=self.folder.name,
                seed=self.config.seed,
                policy_model=self.config.policy_model,
                chat=self._chat,
            ),
        )
        try:
            self.policy_trainer.start()  # starts up while the env runners do
            super().setup(config)
            self._runners = EnvRunnerCalls(self.env_runner_group, self.config, self._warn)
            self._publish_reward_model()
            names = self._runners.call("start", [{}] * self.config.num_env_runners)
            self._oracle_name: str = names[0]
            self._rehearse_sync()
            self._sampling_policy = self._initial()
        except BaseException:
            self.cleanup()
            raise
        self._dashboard = DashboardMetrics(self.folder.name)

    def _rehearse_sync(self) -> None:
        """Gives every engine other weights and takes them back, before a label is asked.

        What an engine keeps of its old weights hardly shows in its first audits, when the weights
        have hardly moved; by these it shows at once.

        Raises:
            RuntimeError: An engine does not sample from the weights that it is given.
        """
        if not self.config.update_policy:
            return
        start = time.perf_counter()
        other = self._publish(REHEARSAL_VERSION, "rehearsal")
        for policy in (other, self._initial()):
            self._runners.call(
                "sync", [{"weights": self._weights(policy)}] * self.config.num_env_runners
            )
        self.metrics.log_value(("seconds", "rehearsal"), time.perf_counter() - start, window=1)

    def _find_trainable_prompts(self, model_path: Path) -> tuple[tuple[int, ...], ...]:
        """Leaves out prompts that do not fit the model, and counts them.

        Returns:
            Tokens of the others, by which engines are audited.
        """
        tokenizer = PromptTokenizer(model_path, chat=self.config.chat_template)
        self._chat = tokenizer.chat
        prompts = text_duel.load_prompts(**text_duel.prompt_options(self.config.env_config))
        self._prompt_indices = {prompt.id: i for i, prompt in enumerate(prompts)}
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
        shown = (tokenizer.encode(prompts[i].text) for i in self._trainable_prompts)
        return probe_tokens(shown, tokenizer.context_length)

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        if self._baseline is None:
            # A run that was stopped before its first checkpoint begins anew in its old folder.
            truncate(self.folder, NO_SAMPLES)
            self._baseline = self._initial_responses()
        # RLlib looks for episodes in evaluation results and warns, once, that there are
        # none; duels have none.
        log_once("no_eval_results")
        self._evaluation = None
        if self._ended_by is not None:
            raise self._ended_by
        # A checkpoint has them in its replay.
        initial = self.config.initial_preferences
        if initial and self._counts.round == 0 and not self._counts.num_initial_preferences:
            self._learn_initial_preferences(initial)
        result: dict[str, Any] = {}
        try:
            result = super().step()
            if self._is_done() and self._evaluation is None:
                evaluate(self)
        except OracleAwayError as error:
            reason = str(error).splitlines()[0]
            if self._is_done():
                self._warn(
                    f"{reason}; all labels are there and learned from, the last evaluation is "
                    "not: `rllib evaluate` of the checkpoint makes it"
                )
            elif self._storage is None:
                raise
            else:
                # Tune writes a checkpoint with this result, and asks for another: that one raises.
                self._ended_by = error
                self._warn(f"{reason}; the run stops, `--resume` goes on with it")
                result = {SHOULD_CHECKPOINT: True}
        # RLlib repeats an evaluation in the rounds after it, and gives NaN for metrics that a
        # round did not have: a result has what was measured in its round.
        for group in ("duels", "reward_model", "policy", "seconds"):
            values = result.pop(group, {})
            result[group] = {k: float(v) for k, v in values.items() if not math.isnan(v)}
        result.pop(EVALUATION_RESULTS, None)
        if self._evaluation is not None:
            result[EVALUATION_RESULTS] = self._evaluation
        result["done"] = self._is_done()
        for kind, lines in (("notes", self._notes), ("warnings", self._warnings)):
            if lines:
                result[kind] = "\n".join(lines)
                lines.clear()
        # RLlib's metrics are floats; counts are not.
        result |= self._counters_now()
        result["query_budget"] = self.config.query_budget
        result["rounds_left"] = self.config.expected_rounds(self._counts.num_oracle_queries)
        result["seconds"]["round"] = time.perf_counter() - start
        self._dashboard.publish(result)
        return result

    def _is_done(self) -> bool:
        budget = self.config.query_budget
        return budget is not None and self._counts.num_oracle_queries >= budget

    @override(Algorithm)
    def cleanup(self) -> None:
        super().cleanup()
        if hasattr(self, "_preferences"):
            self._preferences.close()
        if hasattr(self, "policy_trainer"):
            self.policy_trainer.stop()
            shutil.rmtree(self._train_folder, ignore_errors=True)

    @cached_property
    def folder(self) -> Path:
        """Where the run's own files go: its results folder, where that is on a local disk."""
        folder = self._storage.trial_fs_path if self._stores_locally else self.logdir
        path = Path(folder).resolve()
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def _stores_locally(self) -> bool:
        storage = self._storage
        return storage is not None and storage.storage_filesystem.type_name == "local"

    # -- Evaluation -------------------------------------------------------------------

    @classmethod
    @override(Algorithm)
    def _should_create_evaluation_env_runners(cls, eval_config: AlgorithmConfig) -> bool:
        # The training env runners evaluate, too: a second engine would not fit beside them.
        return False

    def evaluate_held_out(self) -> list[EvaluatedPrompt]:
        """The current policy's responses to the held-out prompts, compared."""
        if self._baseline is None:
            self._baseline = self._initial_responses()
        # A policy that stays has no divergence.
        num_sampled = self.config.evaluation_kl_prompts if self.config.update_policy else 0
        calls = [
            {
                "indices": [self._held_out_prompts[i] for i in chunk],
                "baseline": [self._baseline[i] for i in chunk],
                "weights": self._weights(self._current_policy()),
                "round_index": self._counts.round,
                "num_sampled": int((chunk < num_sampled).sum()),
            }
            for chunk in self._shares(len(self._held_out_prompts))
        ]
        parts: list[list[EvaluatedPrompt]] = self._runners.ask_oracle("evaluate", calls)
        evaluated = [prompt for part in parts for prompt in part]
        # An engine may give a response without a token: there is nothing to compare.
        sampled = [i for i, prompt in enumerate(evaluated) if prompt.sampled_token_ids]
        if not sampled:
            return evaluated
        scores = self.policy_trainer.score(
            [
                PromptResponses(
                    evaluated[i].prompt_token_ids, (evaluated[i].sampled_token_ids or (),)
                )
                for i in sampled
            ]
        )
        for i, kl in zip(sampled, scores.kl, strict=True):
            evaluated[i] = dataclasses.replace(evaluated[i], kl=float(kl))
        return evaluated

    def record_evaluation(
        self, evaluated: Sequence[EvaluatedPrompt], results: dict[str, float]
    ) -> None:
        """Keeps an evaluation's results and sample responses, and counts its questions."""
        outcomes = [o for prompt in evaluated for o in (prompt.greedy, prompt.best_of_n) if o]
        self._counts.num_evaluation_questions += sum(o.num_questions for o in outcomes)
        self._evaluation = results
        append_responses(self.folder, evaluated, self._counts.num_oracle_queries)

    def _initial_responses(self) -> list[str]:
        """Greedy responses of the policy before its first update."""
        calls = [
            {
                "indices": [self._held_out_prompts[i] for i in chunk],
                "weights": self._weights(self._initial()),
            }
            for chunk in self._shares(len(self._held_out_prompts))
        ]
        parts: list[list[str]] = self._runners.call("respond", calls)
        return [text for part in parts for text in part]

    def _shares(self, count: int) -> list[np.ndarray]:
        """Deals ``count`` places out to the env runners."""
        num_shares = min(count, self.config.num_env_runners)
        return np.array_split(np.arange(count), num_shares) if count else []

    # -- Env runners and their weights ------------------------------------------------

    def _weights(self, policy: PublishedPolicy) -> dict[str, Any]:
        """What :meth:`DuelEnvRunner.load` takes: references, fetched only if they are new."""
        from_reference = self.config.num_reference_candidates > 0
        return {
            "policy_version": policy.version,
            "policy_ref": policy.ref,
            "initial_ref": self._initial().ref if from_reference else None,
            "erm_version": self._erm_version,
            "erm_ref": self._erm_ref,
        }

    def _current_policy(self) -> PublishedPolicy:
        """The policy's weights, put where every env runner can fetch them."""
        version = self.policy_trainer.version
        if version == 0:
            return self._initial()
        if self._published_policy is None or self._published_policy.version != version:
            self._published_policy = self._publish(version, "trained")
        return self._published_policy

    def _initial(self) -> PublishedPolicy:
        """The initial policy, which is the reference policy."""
        if self._initial_policy is None:
            self._initial_policy = self._publish(0, "initial")
        return self._initial_policy

    def _publish(self, version: int, which: WhichWeights) -> PublishedPolicy:
        if isinstance(self.policy_trainer, FixedPolicy):
            return PublishedPolicy(version, None)
        # Owned by this process: a training worker's death must not take them along.
        return PublishedPolicy(version, ray.put(self.policy_trainer.weights(which)))

    def _publish_reward_model(self) -> None:
        """Puts the ERM's weights where every env runner can fetch them."""
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        self._erm_ref = ray.put(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])
        self._erm_version += 1

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Takes env runners that came back into service; tasks bring them up to date."""
        return env_runner_group.probe_unhealthy_env_runners()

    # -- Checkpoints ------------------------------------------------------------------

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
                "replay": self._replay.get_state(),
                "calibration": self._calibration.get_state(),
                "collapse_watch": self._collapse_watch.get_state(),
                "counts": dataclasses.asdict(self._counts),
                "baseline": self._baseline,
                "cumulative_pool_regret": self._cumulative_pool_regret,
                "sampling_policy": self._sampling_policy_state(),
                "samples": sizes(self.folder),
            }
        return state

    @override(Algorithm)
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if "sea" in state:
            ours = state["sea"]
            self._replay.set_state(ours["replay"])
            self._calibration.set_state(ours["calibration"])
            self._collapse_watch.set_state(ours["collapse_watch"])
            self._counts = Counts(**ours["counts"])
            self._baseline = ours["baseline"]
            self._cumulative_pool_regret = ours["cumulative_pool_regret"]
            version, weights = ours["sampling_policy"]
            # Without weights it is the initial one, or the current one: see `restore_from_path`.
            ref = None if weights is None else ray.put(weights)
            self._sampling_policy = PublishedPolicy(version, ref) if version else self._initial()
            # Rounds after the checkpoint are done again, and write theirs again.
            truncate(self.folder, ours["samples"])

    def _sampling_policy_state(self) -> tuple[int, Any]:
        """Its version, and its weights if the Ray Train run's folder has others."""
        policy = self._sampling_policy
        if policy.version in (0, self.policy_trainer.version):
            return policy.version, None
        return policy.version, ray.get(policy.ref)

    @classmethod
    @override(Algorithm)
    def from_checkpoint(cls, path: str | Path | Checkpoint, *args: Any, **kwargs: Any) -> Self:
        """As in RLlib, but raises DamagedCheckpointError before anything is started."""
        checkpointing.check_whole(Path(path.path if isinstance(path, Checkpoint) else path))
        return super().from_checkpoint(path, *args, **kwargs)

    @override(Algorithm)
    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Writes a checkpoint where Tune keeps them, whole or not at all.

        Tune would have it in a temporary folder first, and copy it file by file: that takes 3 s
        longer for a model of 135M, and leaves a part of it where the process dies.
        """
        if checkpoint_dir is not None or not self._stores_locally:
            return super().save(checkpoint_dir)
        storage, metrics = self._storage, dict(self._last_result or {})
        storage._update_checkpoint_index(metrics)
        place = Path(storage.checkpoint_fs_path)
        part = self.folder / PART_FOLDER
        for folder in (part, place):  # of a run that was killed
            shutil.rmtree(folder, ignore_errors=True)
        part.mkdir()
        try:
            self.save_checkpoint(str(part))
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)  # on a full disk the log needs the room
            raise
        part.rename(place)
        storage.persist_artifacts(force=storage.sync_config.sync_artifacts_on_checkpoint)
        return _TrainingResult(Checkpoint.from_directory(str(place)), metrics)

    @override(Algorithm)
    def restore(self, checkpoint_path: Any) -> None:
        """Goes on from what Tune takes for the last checkpoint of this run.

        Where that one is damaged, the furthest whole one beside it is taken. Where there is none,
        the run begins anew: what was asked before is not asked again.
        """
        checkpoint = getattr(checkpoint_path, "checkpoint", None)
        if checkpoint is not None and Path(checkpoint.path).resolve().parent == self.folder:
            named = Path(checkpoint.path).resolve()
            wrong = checkpointing.damage(named)
            if wrong is not None:
                other = checkpointing.newest_whole_beside(named)
                logger.warning("checkpoint %s is damaged: %s; taken: %s", named, wrong, other)
                if other is None:
                    return
                progress = checkpointing.progress_of(other)
                metrics = {
                    TRAINING_ITERATION: progress.training_iteration,
                    TIME_TOTAL_S: progress.time_total_s,
                }
                checkpoint_path = _TrainingResult(Checkpoint.from_directory(str(other)), metrics)
        super().restore(checkpoint_path)

    @override(Algorithm)
    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("component") is None:
            checkpointing.check_whole(Path(path))
        super().restore_from_path(path, *args, **kwargs)
        # What was published before is another run's, or another time's, of the same version.
        self._published_policy = None
        if self._sampling_policy.version == self.policy_trainer.version:
            self._sampling_policy = self._current_policy()
        self._publish_reward_model()
        copy = Path(path) / LOG_FILE
        if copy.is_file() and self._preferences.num_questions() == 0:
            self._preferences.inherit(copy)
        self._preferences.check_count(self._counts.round, self._counts.num_oracle_queries)

    @override(Algorithm)
    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        folder = super().save_to_path(path, **kwargs)
        self._preferences.copy_to(Path(folder) / LOG_FILE)
        checkpointing.seal(Path(folder), checkpointing.Progress(self.iteration, self._time_total))
        return folder

    # -- Timing -----------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.metrics.log_value(("seconds", name), time.perf_counter() - start, window=1)
