"""Fits the ERM in this process by plain torch: for studies, and wherever no learner group is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from rllib_sea.preference_models import label_nll
from rllib_sea.reward_model.columns import (
    CHOSEN_FEATURES,
    MEMBER_MASKS,
    PREFERENCES,
    REJECTED_FEATURES,
    STRENGTH,
    WEIGHTS,
)
from rllib_sea.reward_model.ensemble import EnsembleMLP, ensemble_loss


class TorchFit:
    """One step of Adam per minibatch.

    Args:
        ensemble: The ERM's members.
        lr: Adam's learning rate.
        weight_decay: Adam's weight decay.
        ties: See :func:`rllib_sea.preference_models.label_nll`.
        tie_margin: Likewise.
    """

    def __init__(
        self,
        ensemble: EnsembleMLP,
        *,
        lr: float,
        weight_decay: float,
        ties: str = "drop",
        tie_margin: float | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._ties = ties
        self._tie_margin = tie_margin
        self._optimizer = torch.optim.Adam(
            ensemble.parameters(), lr=lr, weight_decay=weight_decay, fused=True
        )

    def __call__(self, columns: Mapping[str, np.ndarray], size: int) -> dict[str, float]:
        """Makes the updates; see :data:`rllib_sea.reward_model.part.Fit`."""
        loss = torch.zeros(())
        for start in range(0, len(columns[CHOSEN_FEATURES]), size):
            batch = {
                name: torch.from_numpy(column[start : start + size])
                for name, column in columns.items()
            }
            loss = self._step(batch)
        return {"total_loss": float(loss)}

    def _step(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        def nll(difference: torch.Tensor) -> torch.Tensor:
            return batch[WEIGHTS] * label_nll(
                difference, batch[PREFERENCES], self._ties, self._tie_margin
            )

        both = torch.cat([batch[CHOSEN_FEATURES], batch[REJECTED_FEATURES]])
        chosen, rejected = self._ensemble(both).chunk(2, dim=1)
        distance = self._ensemble.squared_distance_from_start()
        loss = ensemble_loss(
            chosen, rejected, distance, batch[STRENGTH][0], batch.get(MEMBER_MASKS), nll
        )
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()
