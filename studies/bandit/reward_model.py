"""The plugin's reward model on the bandit: its own part of the Algorithm, without RLlib."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from rllib_sea.randomness import Stream, generator
from rllib_sea.reward_model.ensemble import EnsembleMLP
from rllib_sea.reward_model.part import RewardModelPart
from rllib_sea.reward_model.torch_fit import TorchFit
from rllib_sea.settings.reward_model import RewardModel
from studies.bandit.environment import FEATURE_DIM


@dataclass(frozen=True)
class RewardModelOptions:
    """The ERM's settings: the plugin's defaults, but for the smaller layers.

    Attributes:
        num_members: K.
        hidden: Widths of the hidden layers.
        lr: Adam's.
        weight_decay: Adam's.
        lam: lambda of SEA, Eq. 8.
        lambda_fades: See :func:`rllib_sea.reward_model.ensemble.regularisation_strength`.
        minibatches: m, updates per round.
        minibatch_size: Labels in one.
        prior_scale: Weight of the prior functions.
        bootstrap: Probability that a member learns from a label.
    """

    num_members: int = 20
    hidden: tuple[int, ...] = (32, 32)
    lr: float = 1e-3
    weight_decay: float = 5e-5
    lam: float = 0.5
    lambda_fades: bool = True
    minibatches: int = 5
    minibatch_size: int = 128
    prior_scale: float = 0.0
    bootstrap: float = 1.0

    def parameters_of_a_member(self) -> int:
        """Weights and biases; SEA's authors' code divides lambda by it (a mean, not a sum)."""
        widths = [FEATURE_DIM, *self.hidden, 1]
        return sum(a * b + b for a, b in itertools.pairwise(widths))


class BanditRewardModel:
    """The plugin's ensemble and its part of the Algorithm, fitted in this process.

    Args:
        options: Its settings.
        seed: The run's.
    """

    def __init__(self, options: RewardModelOptions, seed: int) -> None:
        self._ensemble = EnsembleMLP(
            options.num_members,
            FEATURE_DIM,
            options.hidden,
            seed=int(generator(seed, 0, 0, Stream.ERM_INIT).integers(2**31)),
            prior_scale=options.prior_scale,
        )
        self._part = RewardModelPart(
            RewardModel(
                ensemble_size=options.num_members,
                erm_lambda=options.lam,
                erm_lambda_fades=options.lambda_fades,
                erm_minibatches=options.minibatches,
                erm_minibatch_size=options.minibatch_size,
                erm_bootstrap=options.bootstrap,
            ),
            seed,
            TorchFit(self._ensemble, lr=options.lr, weight_decay=options.weight_decay),
            warn=print,
        )

    @property
    def num_labels(self) -> int:
        """Labels that it has seen."""
        return len(self._part.replay)

    @torch.inference_mode()
    def rewards(self, features: torch.Tensor) -> torch.Tensor:
        """(K, B, M) rewards of features (B, M, d)."""
        return self._ensemble(features.flatten(0, 1)).unflatten(1, features.shape[:2])

    def learn(
        self, round_index: int, positions: np.ndarray, chosen: np.ndarray, rejected: np.ndarray
    ) -> None:
        """A round's labels, and its minibatches (SEA, Algorithm 2, line 7).

        Args:
            round_index: The round.
            positions: (N,) of its labels.
            chosen: (N, d) features of the preferred responses.
            rejected: (N, d) features of the others.
        """
        for position, better, worse in zip(positions, chosen, rejected, strict=True):
            self._part.add((round_index, int(position)), better, worse)
        self._part.update(round_index, self.num_labels)
