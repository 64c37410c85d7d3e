"""The life of a SEA run: its processes and parts, its checkpoints, its end.

What a round does stands in :mod:`rllib_sea.sea`.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import (
    COMPONENT_ENV_RUNNER,
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
)
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override

from rllib_sea.checkpointing.algorithm import PART_FOLDER, CheckpointedAlgorithm
from rllib_sea.config import SEAConfig
from rllib_sea.duels.audit import Audit
from rllib_sea.duels.plan import Counts
from rllib_sea.duels.rounds import EvaluatedPrompt
from rllib_sea.duels.run_files import sizes, truncate
from rllib_sea.duels.skipped import SkippedPrompts
from rllib_sea.env_runners.calls import EnvRunnerCalls
from rllib_sea.env_runners.sampling import Sampling
from rllib_sea.evaluation import HeldOut
from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.labelling.labelling import Labelling
from rllib_sea.machine import append_start
from rllib_sea.messages import Messages
from rllib_sea.metrics import DashboardMetrics
from rllib_sea.policy.model_folder import check_policy_folder
from rllib_sea.policy.prompt_identity import Fingerprint
from rllib_sea.policy.prompt_sets import PromptSets
from rllib_sea.policy.prompts_record import check_unchanged, record_prompts
from rllib_sea.policy.sampler import check_sampled_model
from rllib_sea.policy_update.part import PolicyUpdate
from rllib_sea.policy_update.trainer import FixedPolicy, PolicyTrainer
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.preference_log.records import RunRecord
from rllib_sea.preference_models import DROP
from rllib_sea.reward_model.group_fit import GroupFit
from rllib_sea.reward_model.initial_preferences import read_initial_preferences
from rllib_sea.reward_model.part import RewardModelPart
from rllib_sea.settings.declaration import values_of
from rllib_sea.settings.duels import Duels
from rllib_sea.settings.reward_model import RewardModel
from text_duel.config import oracle_options
from text_duel.conversations import as_text


class RunLifecycle(CheckpointedAlgorithm):
    """Starts the processes of a run, makes its parts, and checkpoints them.

    Attributes:
        labelling: Has duels labelled.
        reward_model: The epistemic reward model's labels, fit and health.
        policy: Updates the policy, and says which version samples.
        sampling: Has the env runners sample and score.
        held_out: Compares responses to held-out prompts.
    """

    config: SEAConfig
    labelling: Labelling
    reward_model: RewardModelPart
    policy: PolicyUpdate
    sampling: Sampling
    held_out: HeldOut

    # -- Set-up and end ---------------------------------------------------------------

    @override(Algorithm)
    def setup(self, config: SEAConfig) -> None:
        self._messages = Messages(self._storage)
        self._train_folder = self.folder / "train"
        for left_over in (self._train_folder, self.folder / PART_FOLDER):  # of a killed run
            shutil.rmtree(left_over, ignore_errors=True)

        append_start(self.folder, ray.cluster_resources())

        config = self.config
        model_path = config.policy_model_path()
        model = check_policy_folder(model_path, config.chat_template)
        check_sampled_model(config.sampler, model, on_gpu=config.samples_on_gpu)
        self._prompts = PromptSets(
            model_path,
            config.policy_model,
            chat_template=config.chat_template,
            max_new_tokens=config.max_new_tokens,
            prompts=config.read_prompts(),
            oracle=oracle_options(config.env_config),
        )
        check_unchanged(self.folder, self._prompts.fingerprint)
        for line in self._prompts.left_out:
            self._messages.warn(line)
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
                    self.sampling.rehearse_sync()
            record_prompts(self.folder, self._prompts.fingerprint)
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
        self._audit = Audit(values_of(config, Duels), self._messages.note, self._messages.warn)
        self._ended_by: OracleAwayError | None = None
        self._cumulative_pool_regret = 0.0
        self._evaluation: dict[str, float] | None = None
        self._evaluated: list[EvaluatedPrompt] = []
        self._forecast: dict[str, float] = {}
        self._is_enough = False
        self._links: dict[str, str] = {}
        chat = self._prompts.tokenizer.chat
        run = RunRecord(self.folder.name, config.seed, config.policy_model, chat)
        self.labelling = Labelling(
            config.labeller_settings(log, run),
            self._prompts.index,
            num_gpus=config.num_gpus_for_labeller,
            strategy=config.exploration_strategy,
            ties=config.ties != DROP,
            warn=self._messages.warn,
            show=self._messages.show,
        )
        self.policy = PolicyUpdate(
            self.policy_trainer,
            sync_interval=config.policy_sync_interval,
            needs_initial=config.num_reference_candidates > 0,
            replay=config.policy_replay,
            pairs_per_step=config.prompts_per_round,
            seed=config.seed,
            folder=self.folder,
            in_process=config.num_env_runners == 0 and config.num_train_workers == 0,
        )
        self._fit = GroupFit(self.learner_group, self.metrics)
        self.reward_model = RewardModelPart(
            values_of(config, RewardModel), config.seed, self._fit, self._messages.warn
        )
        self.sampling = Sampling(
            EnvRunnerCalls(self.env_runner_group, config.sample_timeout_s),
            max(1, config.num_env_runners),
            self.policy.weights,
            max_model_len=self._prompts.max_model_len,
            from_reference=config.num_reference_candidates > 0,
        )
        self.publish_reward_model()
        self.sampling.start()
        self.held_out = HeldOut(
            self.sampling,
            self.labelling.measuring,
            self.policy,
            self._prompts.held_out,
            config.evaluation_kl_prompts,
            config.evaluation_samples,
            self._messages.warn,
        )

    def learn_initial_preferences(self, log: str) -> None:
        """Has the ERM learn from labels that exist, before the first round.

        They are no queries of this run, and not in its preference log.

        Args:
            log: The preference log that they are in.
        """
        config, start = self.config, time.perf_counter()
        held_out = {prompt.text for prompt in self._prompts.held_out.prompts}
        preferences = read_initial_preferences(
            log, self._prompts.tokenizer, config.policy_model, self._messages.warn, held_out
        )
        features = self.sampling.encode(
            [as_text(p.prompt) for p in preferences],
            [p.prompt_token_ids for p in preferences],
            [(p.chosen, p.rejected) for p in preferences],
        )
        labels = [p.label for p in preferences if p.label is not None]  # all are answered
        self.reward_model.start_from(features, labels, config.prompts_per_round)
        self._counts.num_initial_preferences = len(labels)
        self.publish_reward_model()
        seconds = time.perf_counter() - start
        self._log("seconds", {"initial_preferences": seconds})
        self._messages.note(f"the ERM starts from {len(labels)} labels of {log} ({seconds:.1f} s)")

    def publish_reward_model(self) -> None:
        """Has the env runners score by the ERM as it is now."""
        self.sampling.publish_reward_model(self._fit.weights())

    @classmethod
    @override(Algorithm)
    def _should_create_evaluation_env_runners(cls, eval_config: AlgorithmConfig) -> bool:
        # The training env runners evaluate, too: a second engine would not fit beside them.
        return False

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Takes env runners that came back into service; tasks bring them up to date."""
        return env_runner_group.probe_unhealthy_env_runners()

    @override(Algorithm)
    def cleanup(self) -> None:
        super().cleanup()
        if hasattr(self, "labelling"):
            self.labelling.close()
        if hasattr(self, "policy_trainer"):
            self.policy_trainer.stop()
            shutil.rmtree(self._train_folder, ignore_errors=True)

    # -- State ------------------------------------------------------------------------

    @override(Algorithm)
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        # An env runner keeps no state, wherever it is.
        others = super().get_checkpointable_components()
        return [
            *((name, part) for name, part in others if name != COMPONENT_ENV_RUNNER),
            ("policy", self.policy_trainer),
        ]

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
            COMPONENT_ENV_RUNNER,
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
                "audit": self._audit.get_state(),
                "baseline": self.held_out.get_state(),
                "prompts": dataclasses.asdict(self._prompts.fingerprint),
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
            self._audit.set_state(ours["audit"])
            self.held_out.set_state(ours["baseline"])
            self._cumulative_pool_regret = ours["cumulative_pool_regret"]
            self.policy.set_state(ours["sampling_policy"])
            self._compare_prompts(Fingerprint(**ours["prompts"]))
            # Rounds after the checkpoint are done again, and write theirs again.
            truncate(self.folder, ours["samples"])

    def _compare_prompts(self, before: Fingerprint) -> None:
        """Tells how the prompts differ from those of the checkpoint that was restored."""
        now = self._prompts.fingerprint
        difference = before.difference(now)
        if difference is not None:
            moved = list(before.training) != list(now.training)
            order = "; training prompts are drawn in another order from here on" if moved else ""
            self._messages.warn(f"the prompts are not those of the checkpoint: {difference}{order}")
        num_trained_on = before.num_trained_on(now)
        if num_trained_on:
            self._messages.warn(
                f"{num_trained_on} of {len(now.held_out)} held-out prompts were training prompts "
                "of the checkpoint's run: results on them are not those of unseen prompts"
            )

    @override(CheckpointedAlgorithm)
    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        self.policy.restored()
        self.publish_reward_model()
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
