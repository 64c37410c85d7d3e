"""The reward model's part of the Algorithm: labelled duels in, fitted members and health out.

Free of Ray: who makes the minibatch updates is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import Proposal
from rllib_sea.randomness import Stream, generator
from rllib_sea.reward_model.columns import (
    CHOSEN_FEATURES,
    MEMBER_MASKS,
    PREFERENCES,
    REJECTED_FEATURES,
    STRENGTH,
    WEIGHTS,
)
from rllib_sea.reward_model.ensemble import regularisation_strength
from rllib_sea.reward_model.forecast import EvaluatedPolicies, forecast
from rllib_sea.reward_model.health import CalibrationWindow, CollapseWatch
from rllib_sea.reward_model.replay import PreferenceReplay, draw_mask
from rllib_sea.reward_model.round_metrics import reward_model_metrics
from rllib_sea.settings.reward_model import RewardModel
from text_duel.verdicts import Label

# Makes one update per minibatch of the columns, which follow one another; returns metrics.
Fit = Callable[[Mapping[str, np.ndarray], int], dict[str, float]]


class RewardModelPart:
    """The labels that the ensemble has seen, its fit to them, and its health.

    Args:
        keys: How it learns.
        seed: The run's.
        fit: Who makes the updates.
        warn: Told if the ensemble collapses.

    Attributes:
        replay: The labels.
        evaluated: The policies that were evaluated.
    """

    def __init__(self, keys: RewardModel, seed: int, fit: Fit, warn: Callable[[str], None]) -> None:
        self._keys = keys
        self._seed = seed
        self._fit = fit
        self._warn = warn
        self.replay = PreferenceReplay()
        self._calibration = CalibrationWindow()
        self._collapse_watch = CollapseWatch()
        self.evaluated = EvaluatedPolicies()

    def health(self, proposals: Sequence[Proposal], duels: Sequence[Duel]) -> dict[str, float]:
        """How the ERM does on a round's labels before it learns from them.

        Args:
            proposals: Those with M candidates and finite rewards.
            duels: The round's.
        """
        real = [duel for duel in duels if not duel.synthetic]
        metrics = reward_model_metrics(proposals, real, self._calibration)
        warning = self._collapse_watch.update(
            metrics.get("argmax_agreement", math.nan),
            metrics.get("member_disagreement", math.nan),
        )
        if warning is not None:
            self._warn(warning)
        return metrics

    def learn(self, duels: Sequence[Duel], round_index: int, num_labels: int) -> dict[str, float]:
        """Adds a round's oracle labels and makes its updates (Algorithm 2, line 7; Eq. 8).

        Args:
            duels: The round's; synthetic ones are no labels.
            round_index: The round.
            num_labels: All labels that the ensemble learns from: the prior fades with them.

        Returns:
            Metrics of the last update; none without labels.
        """
        for duel in duels:
            if duel.synthetic:
                continue
            pair, winner = duel.preference_pair(), 0 if duel.first_wins else 1
            self.add(
                (duel.round, duel.position),
                duel.features[winner],
                duel.features[1 - winner],
                preference=pair.preference,
                weight=pair.weight,
            )
        return self.update(round_index, num_labels)

    def add(
        self,
        place: tuple[int, int],
        chosen: np.ndarray,
        rejected: np.ndarray,
        *,
        preference: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        """Adds a label to those that the ensemble learns from.

        Args:
            place: The round and the position that asked for it.
            chosen: (d,) features of the preferred response.
            rejected: (d,) features of the other.
            preference: The probability that the preferred response is preferred, in [0.5, 1].
            weight: How much the label counts.
        """
        mask = self._mask(self._seed, *place)
        self.replay.add(chosen, rejected, mask, preference=preference, weight=weight)

    def start_from(
        self, features: np.ndarray, labels: Sequence[Label], labels_per_round: int
    ) -> None:
        """Learns from labels that exist, with as many updates as a run that collected them.

        Args:
            features: (N, 2, d) of the chosen and of the rejected responses.
            labels: N, how much the chosen responses are preferred.
            labels_per_round: How many labels a round has.
        """
        # No round draws from this place: what is drawn here is apart from what rounds draw.
        seed = int(generator(self._seed, 0, 1, Stream.REPLAY).integers(2**63))
        self.replay = PreferenceReplay()
        for (chosen, rejected), label in zip(features, labels, strict=True):
            mask = self._mask(seed, 0, len(self.replay))
            preference, weight = label.preference, label.weight
            self.replay.add(chosen, rejected, mask, preference=preference, weight=weight)
        # All labels are there from the first update on, so the strength of the regulariser is that
        # of all: what a run that collected them would have ended with.
        for round_index in range(math.ceil(len(self.replay) / labels_per_round)):
            self._update(seed, round_index, len(self.replay))

    def update(self, round_index: int, num_labels: int) -> dict[str, float]:
        """A round's minibatch updates; none, and no metrics, without labels."""
        if len(self.replay) == 0:
            return {}
        return self._update(self._seed, round_index, num_labels)

    def forecast(self, rewards: np.ndarray, round_index: int) -> dict[str, float]:
        """What the ERM says of the newest policy that was evaluated, and of the next labels.

        Args:
            rewards: (K, T, P) of the features of ``evaluated``, by the ERM as it is.
            round_index: Keys the draws.

        Returns:
            See :func:`rllib_sea.reward_model.forecast.forecast`.
        """
        rng = generator(self._seed, round_index, 0, Stream.FORECAST)
        return forecast(self.evaluated, rewards, self._calibration.predictions, rng)

    def _update(self, seed: int, round_index: int, num_labels: int) -> dict[str, float]:
        keys = self._keys
        size = min(keys.erm_minibatch_size, len(self.replay))
        labels = self.replay.minibatches(
            keys.erm_minibatches, size, generator(seed, round_index, 0, Stream.REPLAY)
        )
        strength = regularisation_strength(keys.erm_lambda, size, num_labels, keys.erm_lambda_fades)
        columns = {
            CHOSEN_FEATURES: labels.chosen,
            REJECTED_FEATURES: labels.rejected,
            PREFERENCES: labels.preferences,
            WEIGHTS: labels.weights,
            STRENGTH: np.full(len(labels.chosen), strength, dtype=np.float32),
        }
        if labels.masks is not None:
            columns[MEMBER_MASKS] = labels.masks
        return self._fit(columns, size)

    def _mask(self, seed: int, round_index: int, position: int) -> np.ndarray | None:
        """(K,) bool, which members learn from a label; None if all do."""
        keys = self._keys
        if keys.erm_bootstrap == 1.0:
            return None
        rng = generator(seed, round_index, position, Stream.BOOTSTRAP)
        return draw_mask(keys.ensemble_size, keys.erm_bootstrap, rng)

    def get_state(self) -> dict[str, Any]:
        """The labels, and what the health of later rounds is measured by."""
        return {
            "replay": self.replay.get_state(),
            "calibration": self._calibration.get_state(),
            "collapse_watch": self._collapse_watch.get_state(),
            "evaluated": self.evaluated.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over :meth:`get_state`."""
        self.replay.set_state(state["replay"])
        self._calibration.set_state(state["calibration"])
        self._collapse_watch.set_state(state["collapse_watch"])
        self.evaluated.set_state(state["evaluated"])
