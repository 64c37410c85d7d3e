"""The configuration of the policy's Ray Train run."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_sea.policy.precision import DTYPE_OF_PRECISION
from rllib_sea.policy_update.objectives.losses import check_loss
from rllib_sea.policy_update.objectives.optimism import check_optimism
from rllib_sea.policy_update.objectives.reinforce import REINFORCE, ReinforceOptions
from rllib_sea.policy_update.schedule import SCHEDULES
from rllib_sea.policy_update.sharding import SHARDING
from rllib_sea.preference_models import check_ties
from rllib_sea.settings.checks import check_choice
from rllib_sea.settings.declaration import check_keys
from rllib_sea.settings.preference_learning import PreferenceLearning
from text_duel.errors import ConfigError


@dataclass(kw_only=True)
class PolicyTrainConfig(PreferenceLearning):
    """What the workers need: SEAConfig's keys of this group, and what makes them one run.

    Attributes:
        total_steps: Expected updates of the run; None if it has no end.
        threads_per_worker: Torch threads of each.
        snapshot_every: Updates between snapshots; a worker that died goes on from the last one
            and repeats the updates since.
        seed: The run's seed.
        model_path: The initial policy's folder, which is also the reference policy's.
        storage_path: A folder for the run's own files, on storage that all workers share.
        probes: Tokens by which engines are audited, :func:`rllib_sea.policy.audit.probe_tokens`.
    """

    total_steps: int | None = None
    threads_per_worker: int = 1
    snapshot_every: int = 10
    seed: int = 0
    model_path: str = ""
    storage_path: str = ""
    probes: tuple[tuple[int, ...], ...] = ()

    @property
    def anchor_decay(self) -> float:
        """How slowly REINFORCE's anchor moves (its eta); 1 if it stays, and for other losses."""
        if self.loss != REINFORCE:
            return 1.0
        return ReinforceOptions(**self.loss_config).anchor_decay

    def validate(self) -> None:
        """Checks every key of the group.

        Raises:
            ConfigError: One line with the key, the value and what was expected.
        """
        check_keys(self, PreferenceLearning)
        check_loss(self.loss, self.loss_config)
        check_ties(self.ties, self.tie_margin, self.loss)
        check_optimism(self.optimism, self.loss)
        check_choice("lr_schedule", self.lr_schedule, SCHEDULES)
        check_choice("train_precision", self.train_precision, DTYPE_OF_PRECISION)
        check_choice("train_strategy", self.train_strategy, SHARDING)
        if self.num_train_workers == 0 and self.train_strategy != "ddp":
            raise ConfigError(
                f"num_train_workers: 0 updates the policy without Ray Train, which train_strategy "
                f"{self.train_strategy} needs (expected at least 1)"
            )
        if self.anchor_decay < 1.0 and self.train_strategy != "ddp":
            raise ConfigError(
                f"loss_config: anchor_decay {self.anchor_decay:g} averages weights that every "
                f"worker has, which train_strategy {self.train_strategy} spreads (expected ddp)"
            )
        if self.kl_target is not None and self.anchor_decay < 1.0:
            raise ConfigError(
                f"kl_target: {self.kl_target:g} is a divergence from the reference policy, which "
                f"is not measured with anchor_decay {self.anchor_decay:g} (expected 1)"
            )
        if self.num_train_workers == 0 and self.num_gpus_per_train_worker:
            raise ConfigError(
                f"num_gpus_per_train_worker: {self.num_gpus_per_train_worker:g} has no effect with "
                "num_train_workers 0 (expected at least 1)"
            )
