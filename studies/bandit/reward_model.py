"""The plugin's ensemble, replay and loss in a plain loop, without RLlib's learner."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from rllib_sea.randomness import Stream, generator
from rllib_sea.reward_model.ensemble import EnsembleMLP, ensemble_loss, regularisation_strength
from rllib_sea.reward_model.replay import PreferenceReplay, draw_mask
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
        minibatches: m, updates a round.
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


class RewardModel:
    """An ensemble with its optimizer and its replay.

    Args:
        options: Its settings.
        seed: The run's.
    """

    def __init__(self, options: RewardModelOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._ensemble = EnsembleMLP(
            options.num_members,
            FEATURE_DIM,
            options.hidden,
            seed=int(generator(seed, 0, 0, Stream.ERM_INIT).integers(2**31)),
            prior_scale=options.prior_scale,
        )
        self._optimizer = torch.optim.Adam(
            self._ensemble.parameters(),
            lr=options.lr,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self._replay = PreferenceReplay()

    @property
    def num_labels(self) -> int:
        """Labels in the replay."""
        return len(self._replay)

    @torch.inference_mode()
    def rewards(self, features: torch.Tensor) -> torch.Tensor:
        """(K, B, M) rewards of features (B, M, d)."""
        return self._ensemble(features.flatten(0, 1)).unflatten(1, features.shape[:2])

    def add(self, chosen: np.ndarray, rejected: np.ndarray) -> None:
        """Adds labels to the replay.

        Args:
            chosen: (N, d) features of the preferred responses.
            rejected: (N, d) features of the others.
        """
        options = self._options
        for better, worse in zip(chosen, rejected, strict=True):
            mask = None
            if options.bootstrap < 1.0:
                rng = generator(self._seed, 0, len(self._replay), Stream.BOOTSTRAP)
                mask = draw_mask(options.num_members, options.bootstrap, rng)
            self._replay.add(better, worse, mask)

    def update(self, round_index: int) -> None:
        """A round's minibatches (SEA, Algorithm 2, line 7); none where there are no labels."""
        options, num_labels = self._options, self.num_labels
        if num_labels == 0:
            return
        size = min(options.minibatch_size, num_labels)
        chosen, rejected, masks, *_ = self._replay.minibatches(
            options.minibatches, size, generator(self._seed, round_index, 0, Stream.REPLAY)
        )
        strength = regularisation_strength(options.lam, size, num_labels, options.lambda_fades)
        for start in range(0, len(chosen), size):
            rows = slice(start, start + size)
            both = torch.from_numpy(np.concatenate([chosen[rows], rejected[rows]]))
            better, worse = self._ensemble(both).split(size, dim=1)
            loss = ensemble_loss(
                better,
                worse,
                self._ensemble.squared_distance_from_start(),
                strength,
                None if masks is None else torch.from_numpy(masks[rows]),
            )
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
