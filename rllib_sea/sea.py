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
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.annotations import override
from ray.tune.result import SHOULD_CHECKPOINT
from ray.util.debug import log_once

from rllib_sea.config import SEAConfig
from rllib_sea.duels.plan import Counts, RoundPlan, plan_round
from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import EvaluatedPrompt, Proposal
from rllib_sea.duels.run_files import (
    NOTHING_WRITTEN,
    append_duels,
    append_responses,
    truncate,
)
from rllib_sea.duels.selection import SelectedDuel, select_duels, usable_proposals
from rllib_sea.evaluation import evaluate, summarise
from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.labelling.labelling import LabelledRound
from rllib_sea.lifecycle import RunLifecycle
from rllib_sea.metrics import duel_metrics, of_this_round, oracle_metrics, skip_metrics
from rllib_sea.policy_update.objectives.reinforce import REINFORCE, ReinforceOptions
from rllib_sea.preference_log.records import Question
from rllib_sea.reward_model.forecast import gain_in_words, in_words, is_enough
from rllib_sea.settings.declaration import values_of
from rllib_sea.settings.duels import Duels


class SEA(RunLifecycle):
    """Sample-efficient alignment with Thompson sampling and an epistemic reward model."""

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
                f"the run has ended after {self._counts.num_oracle_queries} queries, of a "
                f"query_budget of {self.config.query_budget}"
            )
        plan = self._plan_round()  # line 2
        with self._stage("propose"):  # line 3
            proposals = self._propose(plan)
        with self._stage("select"):  # lines 4 and 5
            usable, skipped = usable_proposals(proposals, self.config.num_candidates)
            selected, without_duel = self._select(plan, usable)
            skipped |= without_duel
            num_skipped = self._skipped.check(bool(selected or not plan.prompts), skipped)
        with self._stage("label"):  # line 6
            labelled = self.labelling.label(self._counts.round, selected, self._rescore)
        counts = self._counts_after(plan, num_skipped, labelled)
        with self._stage("erm"):  # line 7
            erm_metrics = self._audit.test_duels(labelled.duels, counts.num_oracle_queries)
            erm_metrics |= self._update_reward_model(labelled.duels, usable, counts)
        with self._stage("policy"):  # line 8
            policy_metrics = self._update_policy(labelled.duels, usable, counts)
        with self._stage("measure"):
            measured = self._measure(labelled.asked, counts)
        append_duels(self.folder, counts.round, labelled.duels)
        self._counts = dataclasses.replace(counts, round=counts.round + 1)
        self._log(
            "duels",
            {"gamma": plan.gamma}
            | {"num_late_labels": labelled.num_late, "staleness": labelled.staleness}
            | duel_metrics(proposals, labelled.asked, labelled.duels)
            | skip_metrics(skipped)
            | measured,
        )
        if self.labelling.asks_people:
            self._log("seconds", {"people_idle": labelled.people_idle_s})
        self._log("reward_model", erm_metrics)
        self._log("policy", policy_metrics)

    def _plan_round(self) -> RoundPlan:
        """The round's prompts, and which of their pairs the ERM labels."""
        config = self.config
        return plan_round(
            self._counts,
            num_prompts=len(self._prompts.training),
            prompts_per_round=config.prompts_per_round,
            prompt_pool_size=config.prompt_pool_size,
            query_budget=config.query_budget,
            gamma=config.mixture,
            trusted=self._audit.trusted,
            audit_share=config.audit_share,
            seed=config.seed,
        )

    def _propose(self, plan: RoundPlan) -> list[Proposal]:
        """Has the env runners sample and score."""
        prompts = self._prompts.training.tokenized(plan.prompts)
        proposed = self.sampling.propose(self._counts.round, prompts, self.policy.sampling)
        if not math.isnan(proposed.sampler_gap):
            self._log("policy", {"sampler_gap": proposed.sampler_gap})
        self._log("seconds", {f"propose_{k}": v for k, v in proposed.seconds.items()})
        return proposed.proposals

    def _select(
        self, plan: RoundPlan, proposals: Sequence[Proposal]
    ) -> tuple[list[SelectedDuel], dict[str, list[str]]]:
        """Selects the duels; also returns the prompts without one, by the reason."""
        config = self.config
        implicit_rewards = None
        if proposals and config.needs_implicit_rewards:
            implicit_rewards = self.policy.implicit_rewards(proposals)
        return select_duels(
            proposals,
            implicit_rewards,
            keys=values_of(config, Duels),
            plan=plan,
            seed=config.seed,
            round_index=self._counts.round,
        )

    def _rescore(self, questions: Sequence[Question]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and rewards of logged responses, which this round did not sample."""
        return self.sampling.rescore(questions, self.policy.sampling)

    def _counts_after(self, plan: RoundPlan, num_skipped: int, labelled: LabelledRound) -> Counts:
        """What the run has done once the round's labels are there."""
        counts = self._counts
        return dataclasses.replace(
            counts,
            num_oracle_queries=labelled.num_answered,
            num_open_questions=labelled.num_open,
            num_skipped_questions=labelled.num_skipped,
            num_withdrawn_questions=labelled.num_withdrawn,
            num_prompts_drawn=counts.num_prompts_drawn + len(plan.prompts),
            num_synthetic_pairs=counts.num_synthetic_pairs
            + sum(duel.synthetic for duel in labelled.asked),
            num_skipped_prompts=counts.num_skipped_prompts + num_skipped,
        )

    def _update_reward_model(
        self, duels: Sequence[Duel], proposals: Sequence[Proposal], counts: Counts
    ) -> dict[str, float]:
        """Holds the ERM against the round's labels, adds them to its own, and fits it to them."""
        metrics = self.reward_model.health(proposals, duels)
        if "accuracy_on_new_labels" in metrics:
            foreseen = metrics["accuracy_on_new_labels"]
            self.labelling.tell_people(f"The reward model had foreseen {foreseen:.0%} of them.")
        # The prior fades with all labels that the ERM learns from, those that the run started
        # from included: with its own alone, its first rounds would pull a warm ERM back.
        num_labels = counts.num_oracle_queries + counts.num_initial_preferences
        fitted = self.reward_model.learn(duels, counts.round, num_labels)
        if fitted:
            self.publish_reward_model()
        return metrics | fitted

    def _update_policy(
        self, duels: Sequence[Duel], proposals: Sequence[Proposal], counts: Counts
    ) -> dict[str, float]:
        """One step of the direct loss on the round's pairs, and those on replayed labels.

        With `loss: reinforce` one on all candidates, while the ERM has labels enough and is right.
        """
        round_index = self._counts.round
        if self.config.loss == REINFORCE:
            options = ReinforceOptions(**self.config.loss_config)
            num_labels = counts.num_oracle_queries + counts.num_initial_preferences
            teaches = num_labels >= options.min_labels and self._audit.trusted
            shown = proposals if teaches else []
            return self.policy.reinforce(round_index, shown, options)
        labelled = []
        if self.config.policy_replay:
            labelled = self.labelling.learned(round_index + 1)
        pairs = [duel.preference_pair() for duel in duels]
        return self.policy.learn(round_index, pairs, labelled, self.labelling.pairs)

    def _measure(self, asked: Sequence[SelectedDuel], counts: Counts) -> dict[str, float]:
        """Asks the oracle what is not learned from: counted apart, as evaluation questions.

        Args:
            asked: The round's duels.
            counts: Counts the questions.

        Returns:
            :func:`rllib_sea.metrics.oracle_metrics`, with regret also summed over the run.
        """
        duels, prompts = [], []
        for duel in asked:
            proposal = duel.proposal
            prompt = self._prompts.index.find(proposal.prompt_id, proposal.prompt_text)
            if prompt is not None:
                duels.append(duel)
                prompts.append(prompt)
        if len(duels) < len(asked):
            self._messages.warn(
                f"round {self._counts.round}: {len(asked) - len(duels)} duels of the log are not "
                "measured, since their prompts are no training prompts any more"
            )
        try:
            measurement = self.labelling.measuring.round(
                duels,
                prompts,
                online_wins=self.config.measure_online_win_rate,
                candidate_scores=self.config.measure_candidate_scores,
            )
        except OracleAwayError as error:
            self._messages.warn(f"round {self._counts.round} is not measured: {error}")
            return {}
        counts.num_evaluation_questions += measurement.num_questions
        metrics = oracle_metrics(duels, measurement)
        if self.config.measure_candidate_scores:
            # A round may have no real duel.
            self._cumulative_pool_regret += metrics.pop("sum_pool_regret", 0.0)
            metrics["cumulative_pool_regret"] = self._cumulative_pool_regret
        return metrics

    # -- Results ----------------------------------------------------------------------

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        if self._ended_by is None:
            self._invite_people()
        if not self.held_out.get_state():
            # A run that was stopped before its first checkpoint begins anew in its old folder.
            truncate(self.folder, NOTHING_WRITTEN)
            self.held_out.baseline()
        # RLlib looks for episodes in evaluation results and warns, once, that there are
        # none; duels have none.
        log_once("no_eval_results")
        self._evaluation, self._evaluated, self._forecast = None, [], {}
        if self._ended_by is not None:
            raise self._ended_by
        # A checkpoint has them among its labels.
        initial = self.config.initial_preferences
        if initial and self._counts.round == 0 and not self._counts.num_initial_preferences:
            self.learn_initial_preferences(initial)
        found = self._step_or_stop()
        self._keep_evaluation()
        result = of_this_round(found, self._evaluation)
        result["reward_model"] |= self._forecast
        result["done"] = self._is_done()
        if self._ended_by is None:
            self._counts.num_texts_cut += self.labelling.measuring.take_num_cut()
        # RLlib's metrics are floats; counts are not.
        result |= self._messages.take() | self._counters_now()
        result["query_budget"] = self.config.query_budget
        result["rounds_left"] = self.config.expected_rounds(self._counts.num_oracle_queries)
        result["seconds"]["round"] = time.perf_counter() - start
        self._dashboard.publish(result)
        return result

    def _invite_people(self) -> None:
        """Serves the page on which people label, and tells their links once."""
        links = self.labelling.open_page()
        if links and links != self._links:
            self._links = links
            for rater, link in links.items():
                self._messages.tell_only(f"{rater} labels at {link}")

    def _step_or_stop(self) -> dict[str, Any]:
        """A round, and the evaluation that is due; a checkpoint if the oracle is away."""
        result: dict[str, Any] = {}
        try:
            result = super().step()
            self._foresee()
            if self._is_done() and self._evaluation is None:
                evaluate(self)
            if self._is_done() and self.config.evaluation_questions:
                self._have_people_judge()
        except OracleAwayError as error:
            if self._storage is None:
                raise
            # Tune writes a checkpoint with this result, and asks for another: that one raises.
            self._ended_by = error
            self._messages.warn(f"{error}; the run stops, {error.way_on}")
            result = {SHOULD_CHECKPOINT: True}
        return result

    def _counters_now(self) -> dict[str, int]:
        return {
            **dataclasses.asdict(self._counts),
            "num_prompts_too_long": self._prompts.training.num_too_long,
            "policy_steps": self.policy_trainer.version,
        }

    def _is_done(self) -> bool:
        if self._is_enough:
            return True
        budget, counts = self.config.query_budget, self._counts
        if budget is None or counts.num_oracle_queries < budget:
            return False
        return self.labelling.is_all_learned(counts.round)

    def _foresee(self) -> None:
        """Has the ERM say what the next labels will bring, and ends the run if that is too little.

        A run that was ended so and is restored goes on, for a round at least.
        """
        evaluated = self.reward_model.evaluated
        if not len(evaluated):
            return
        rewards = self.sampling.rewards(evaluated.features)
        self._forecast = said = self.reward_model.forecast(rewards, self._counts.round)
        self.labelling.tell_people(in_words(said))
        least = self.config.stop_when_gain_below
        if least is None or self._is_done() or not is_enough(said, least):
            return
        self._is_enough = True
        left = self._counts.num_open_questions
        self._messages.note(
            f"the run ends: {gain_in_words(said)} to the win rate over the initial policy, by the "
            f"ERM alone: less than stop_when_gain_below {least:g}"
            + (f"; {left} questions stay open" if left else "")
        )

    # -- Evaluation -------------------------------------------------------------------

    def evaluate_held_out(self) -> list[EvaluatedPrompt]:
        """The current policy's responses to the held-out prompts, compared."""
        return self.held_out.evaluate(self._counts.round)

    def record_no_evaluation(self, error: OracleAwayError) -> None:
        """Says that an evaluation is left out, and has it not tried again in this round."""
        self._evaluation = {}
        self._messages.warn(
            f"the evaluation after {self._counts.num_oracle_queries} queries is left out: {error}; "
            "`rllib evaluate` of the checkpoint makes it"
        )

    def record_evaluation(
        self, evaluated: Sequence[EvaluatedPrompt], results: dict[str, float]
    ) -> None:
        """Takes an evaluation's results and responses."""
        self._evaluation, self._evaluated = results, list(evaluated)
        seen = {p.prompt_text: p.features for p in evaluated if p.features is not None}
        if seen:
            self.reward_model.evaluated.add(
                self._counts.num_oracle_queries, list(seen), np.stack(list(seen.values()))
            )

    def _have_people_judge(self) -> None:
        """Puts the policy's responses beside the initial policy's before people, at the end."""
        if not self._evaluated:
            return
        judged = self.labelling.judge(
            self._counts.round,
            self._evaluated[: self.config.evaluation_questions],
            self._prompts.held_out.prompts[: self.config.evaluation_questions],
            self.policy_trainer.version,
        )
        self._evaluated[: len(judged)] = judged
        num_judged = sum(not math.isnan(one.greedy.win_vs_initial) for one in judged)
        self._evaluation = (
            (self._evaluation or {})
            | summarise(self._evaluated)
            | {"num_judged": float(num_judged)}
        )

    def _keep_evaluation(self) -> None:
        """Counts an evaluation's questions, and writes its responses down."""
        evaluated = self._evaluated
        self._counts.num_evaluation_questions += sum(
            outcome.num_questions
            for prompt in evaluated
            for outcome in (prompt.greedy, prompt.best_of_n, *prompt.samples)
            if outcome
        )
        if evaluated:
            append_responses(
                self.folder, self._counts.round, self._counts.num_oracle_queries, evaluated
            )
