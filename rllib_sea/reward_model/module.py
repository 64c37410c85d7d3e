"""The epistemic reward model as an RLModule: K vectorised heads on encoder features."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.annotations import override

from rllib_sea.reward_model.columns import CHOSEN_FEATURES, REJECTED_FEATURES
from rllib_sea.reward_model.ensemble import EnsembleMLP

FEATURES = "features"
REWARDS = "rewards"


class EpistemicRewardModel(TorchRLModule):
    """The ERM: maps encoder features (N, d) to member rewards (K, N).

    ``model_config`` has the arguments of :class:`EnsembleMLP`, but for ``feature_dim``: that is the
    width of the observation space.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        self.ensemble = EnsembleMLP(
            feature_dim=self.observation_space.shape[0], **self.model_config
        )

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {REWARDS: self.ensemble(batch[FEATURES])}

    @override(TorchRLModule)
    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        num_pairs = len(batch[CHOSEN_FEATURES])
        rewards = self.ensemble(torch.cat([batch[CHOSEN_FEATURES], batch[REJECTED_FEATURES]]))
        return {"chosen": rewards[:, :num_pairs], "rejected": rewards[:, num_pairs:]}
