"""The learner of the epistemic reward model, one update of a round."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override

from rllib_sea.preference_models import TIE, label_nll
from rllib_sea.reward_model.columns import MEMBER_MASKS, PREFERENCES, STRENGTH, WEIGHTS
from rllib_sea.reward_model.ensemble import ensemble_loss, member_nll


class EpistemicRewardLearner(TorchLearner):
    """Fits the ensemble to replayed oracle labels (SEA, Eq. 8)."""

    @override(TorchLearner)
    def configure_optimizers_for_module(
        self, module_id: str, config: AlgorithmConfig | None = None
    ) -> None:
        assert config is not None
        parameters = self.get_parameters(self._module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(
                parameters, lr=config.erm_lr, weight_decay=config.erm_weight_decay, fused=True
            ),
            params=parameters,
            lr_or_lr_schedule=config.erm_lr,
        )

    @override(Learner)
    def compute_loss_for_module(
        self,
        *,
        module_id: str,
        config: AlgorithmConfig,
        batch: dict[str, Any],
        fwd_out: dict[str, Any],
    ) -> torch.Tensor:
        chosen, rejected = fwd_out["chosen"], fwd_out["rejected"]
        masks = batch.get(MEMBER_MASKS)  # there if members learn from labels of their own
        preferences = batch[PREFERENCES]

        def nll(difference: torch.Tensor) -> torch.Tensor:
            return batch[WEIGHTS] * label_nll(
                difference, preferences, config.ties, config.tie_margin
            )

        right = (chosen > rejected)[:, preferences != TIE]  # a tie has no side to be right about
        ensemble = self.module[module_id].unwrapped().ensemble
        distance = ensemble.squared_distance_from_start()
        self.metrics.log_dict(
            {
                "nll": member_nll(chosen, rejected, masks, nll).mean().detach(),
                "accuracy": right.float().mean(),
                "distance_from_start": distance.mean().sqrt().detach(),
            },
            key=module_id,
            window=1,
        )
        return ensemble_loss(chosen, rejected, distance, batch[STRENGTH][0], masks, nll)
