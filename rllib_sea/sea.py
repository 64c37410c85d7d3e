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
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

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
from ray.util.debug import log_once

import text_duel
from rllib_sea.config import SEAConfig
from rllib_sea.duels.records import Duel, PreferencePair
from rllib_sea.duels.rounds import EvaluatedResponse, Failure, RoundShare, RoundTask
from rllib_sea.duels.samples import append_duels, append_responses
from rllib_sea.evaluation import evaluate
from rllib_sea.metrics import DashboardMetrics, duel_metrics, reward_model_metrics
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_trainer import PolicyTrainer
from rllib_sea.preference_learning.learner import NonFiniteUpdateError
from rllib_sea.preference_learning.mixing import draw_synthetic, gamma_at
from rllib_sea.randomness import Stream, generator, generators, prompt_order
from rllib_sea.reward_model.ensemble import regularisation_strength
from rllib_sea.reward_model.module import CHOSEN_FEATURES, REJECTED_FEATURES, STRENGTH
from rllib_sea.reward_model.replay import PreferenceReplay
from rllib_sea.runner import DuelEnvRunner
from text_duel.errors import ConfigError


@dataclasses.dataclass
class Counts:
    """What a run has done so far; see docs/metrics.md."""

    round: int = 0
    num_oracle_queries: int = 0
    num_prompts_drawn: int = 0
    num_synthetic_pairs: int = 0
    num_skipped_prompts: int = 0
    num_evaluation_questions: int = 0


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
            len(self._trainable_prompts), config.seed, self._counts.num_prompts_drawn, count
        )
        gamma = gamma_at(config.gamma, self._counts.num_oracle_queries)
        synthetic = draw_synthetic(
            gamma, generators(config.seed, self._counts.round, range(count), Stream.MIXING)
        )
        if config.query_budget is not None:
            left = config.query_budget - self._counts.num_oracle_queries
            asked = np.cumsum([not ours for ours in synthetic])
            count = int(np.searchsorted(asked, left, side="right")) if asked[-1] > left else count
        self._counts.num_prompts_drawn += count
        self._gamma_now = gamma
        tasks = []
        for chunk in np.array_split(np.arange(count), min(count, config.num_env_runners)):
            tasks.append(
                RoundTask(
                    round=self._counts.round,
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
        self._counts.num_oracle_queries += len(real)
        if len(self._replay) == 0:
            return metrics
        size = min(config.erm_minibatch_size, len(self._replay))
        chosen, rejected = self._replay.minibatches(
            config.erm_minibatches,
            size,
            generator(config.seed, self._counts.round, 0, Stream.REPLAY),
        )
        strength = regularisation_strength(
            config.erm_lambda, size, self._counts.num_oracle_queries, config.erm_lambda_fades
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
            path = self.folder / f"non_finite_round_{self._counts.round}.json"
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
        counts = self._counts
        counts.round += 1
        counts.num_synthetic_pairs += sum(duel.synthetic for duel in duels)
        counts.num_skipped_prompts += sum(len(share.skipped_prompt_ids) for share in shares)
        counts.num_evaluation_questions += sum(share.num_evaluation_questions for share in shares)
        append_duels(self.folder, duels)
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
            **dataclasses.asdict(self._counts),
            "num_prompts_too_long": self._num_prompts_too_long,
            "policy_version": self.policy_trainer.version,
        }

    # -- Set-up and end ---------------------------------------------------------------

    @override(Algorithm)
    def setup(self, config: SEAConfig) -> None:
        self._replay = PreferenceReplay()
        self._counts = Counts()
        self._gamma_now = 1.0
        self._baseline: list[str] | None = None
        self._evaluation: dict[str, float] | None = None
        self._erm_version = 0

        self._train_folder = self.folder / "train"
        shutil.rmtree(self._train_folder, ignore_errors=True)
        model_path = self.config.policy_model_path()
        self._find_trainable_prompts(model_path)
        self.policy_trainer = PolicyTrainer(
            dataclasses.replace(
                self.config.policy_train_config(),
                model_path=str(model_path),
                storage_path=str(self._train_folder),
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
        self._dashboard = DashboardMetrics(self.folder.name)

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

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        if self._baseline is None:
            self._baseline = self._initial_responses()
        # RLlib looks for episodes in evaluation results and warns, once, that there are
        # none; duels have none.
        log_once("no_eval_results")
        self._evaluation = None
        result = super().step()
        if self._is_done() and self._evaluation is None:
            evaluate(self)
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
        result |= self._counters_now()
        result["query_budget"] = self.config.query_budget
        result["seconds"]["round"] = time.perf_counter() - start
        self._dashboard.publish(result)
        return result

    def _is_done(self) -> bool:
        budget = self.config.query_budget
        return budget is not None and self._counts.num_oracle_queries >= budget

    @override(Algorithm)
    def cleanup(self) -> None:
        super().cleanup()
        if hasattr(self, "policy_trainer"):
            self.policy_trainer.stop()
            shutil.rmtree(self._train_folder, ignore_errors=True)

    @cached_property
    def folder(self) -> Path:
        """Where the run's own files go: its results folder, where that is on a local disk."""
        storage = self._storage
        local = storage is not None and storage.storage_filesystem.type_name == "local"
        folder = Path(storage.trial_fs_path if local else self.logdir).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

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

    def record_evaluation(
        self, responses: Sequence[EvaluatedResponse], results: dict[str, float]
    ) -> None:
        """Keeps an evaluation's results and sample responses, and counts its questions."""
        questions = sum(2 - np.isnan([r.win_vs_reference]).sum() for r in responses)
        self._counts.num_evaluation_questions += int(questions)
        self._evaluation = results
        append_responses(self.folder, responses, self._counts.num_oracle_queries)

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
                "counts": dataclasses.asdict(self._counts),
                "baseline": self._baseline,
            }
        return state

    @override(Algorithm)
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if "sea" in state:
            ours = state["sea"]
            self._replay.set_state(ours["replay"])
            self._counts = Counts(**ours["counts"])
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
