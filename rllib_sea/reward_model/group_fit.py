"""Fits the ERM by RLlib's learner group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

METRICS = ("total_loss", "nll", "accuracy", "distance_from_start")


class GroupFit:
    """One update of the learners per minibatch.

    Args:
        learners: The learner group.
        metrics: Where its results go.
    """

    def __init__(self, learners: LearnerGroup, metrics: MetricsLogger) -> None:
        self._learners = learners
        self._metrics = metrics

    def __call__(self, columns: Mapping[str, np.ndarray], size: int) -> dict[str, float]:
        """Makes the updates; see :data:`rllib_sea.reward_model.part.Fit`."""
        batch = SampleBatch(dict(columns))
        results = self._learners.update(
            batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=len(batch)),
            minibatch_size=size,
        )
        self._metrics.aggregate(results, key="learners")
        learned = self._metrics.peek(("learners", DEFAULT_MODULE_ID))
        return {key: float(learned[key]) for key in METRICS}

    def weights(self) -> Any:
        """The ERM's weights, as env runners take them."""
        state = self._learners.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        return state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
