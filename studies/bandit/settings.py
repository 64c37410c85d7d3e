"""A method of the bandit tier: its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rllib_sea.policy_update.objectives.reinforce import REINFORCE
from rllib_sea.settings.duels import Duels
from studies.bandit.environment import Labeller
from studies.bandit.reward_model import RewardModelOptions

REWARD_FREE = ("apl", "passive", "random", "xpo")


@dataclass(frozen=True)
class Settings:
    """A method and its surroundings.

    The policy's learning rate was chosen on seeds 100 to 102, which are in no result, looking
    at passive sampling, between 1e-3 and 2e-3. It is far from passive's best, which is 4e-2:
    :data:`studies.bandit.methods.BEST_RATES` has each method's own.

    Attributes:
        strategy: A name of :data:`rllib_sea.exploration.STRATEGIES`.
        options: The strategy's options.
        gamma: Share of real labels after the warm-up; 1 does not mix.
        warm_up: Queries with gamma 1; with ``reinforce`` the policy stays during them.
        synthetic_pair: See :func:`rllib_sea.exploration.mixing.mix`.
        synthetic_labels: Likewise.
        synthetic_agreement: Likewise.
        audit_threshold: See :class:`rllib_sea.duels.audit.Audit`.
        audit_window: Likewise.
        audit_share: Likewise.
        mixing_kl_limit: Beyond this divergence from the reference policy the ERM labels no pair;
            None: it does however far the policy has gone. No key of the plugin: it saves no labels.
        query_budget: Labels.
        num_candidates: M.
        prompts_per_round: Duels in a round.
        sync_interval: Rounds after which the trained policy samples; None: never (offline).
        update_policy: False leaves the policy as it is.
        policy_replay: Further updates per round, each on as many pairs as a round has prompts,
            drawn from all that the oracle has labelled so far.
        lr: The policy's.
        kl_target: See :class:`rllib_sea.settings.preference_learning.PreferenceLearning`.
        loss: A name of :data:`rllib_sea.policy_update.objectives.losses.LOSSES`, or ``reinforce``.
        beta: The loss's.
        optimism: A name of :data:`rllib_sea.policy_update.objectives.optimism.OPTIMISM`.
        optimism_alpha: Its weight.
        reward_model: The ERM's settings.
        labeller: The oracle.
        drift_at: Queries after which preferences have drifted.
        best_of_n: N of the test-time choice by the ERM's mean; None does not measure it.
    """

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    gamma: float = 1.0
    warm_up: int = 320
    synthetic_pair: str = "selected_pair"
    synthetic_labels: str = "hard"
    synthetic_agreement: float = 0.0
    audit_threshold: float | None = None
    audit_window: int = 128
    audit_share: float = 0.0
    mixing_kl_limit: float | None = None
    query_budget: int = 3200
    num_candidates: int = 20
    prompts_per_round: int = 32
    sync_interval: int | None = 1
    update_policy: bool = True
    policy_replay: int = 0
    lr: float = 2e-3
    kl_target: float | None = None
    loss: str = "dpo"
    beta: float = 0.1
    optimism: str | None = None
    optimism_alpha: float = 0.0
    reward_model: RewardModelOptions = field(default_factory=RewardModelOptions)
    labeller: Labeller = field(default_factory=Labeller)
    drift_at: int | None = None
    best_of_n: int | None = None

    @property
    def uses_reward_model(self) -> bool:
        """Whether anything depends on the ERM; if nothing does, it is not trained."""
        return (
            self.strategy not in REWARD_FREE
            or self.gamma < 1.0
            or self.best_of_n is not None
            or self.loss == REINFORCE
        )

    def mixing(self) -> Duels:
        """The plugin's keys of how the ERM labels pairs."""
        shared = [f.name for f in fields(self) if f.name.startswith(("synthetic_", "audit_"))]
        return Duels(**{name: getattr(self, name) for name in shared})

    def gamma_schedule(self) -> float | list[list[float]]:
        """The plugin's ``gamma``."""
        if self.gamma == 1.0:
            return 1.0
        return [[0, 1.0], [self.warm_up, 1.0], [self.warm_up + 1, self.gamma]]
