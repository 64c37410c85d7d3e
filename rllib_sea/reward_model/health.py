"""Is the ensemble still of use: right, calibrated, and of more than one mind?

All functions look at rewards from before the round's labels are learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_BINS = 10
# Labels of a CalibrationWindow.
WINDOW_SIZE = 512


def win_probabilities(member_rewards: np.ndarray) -> np.ndarray:
    """``sigmoid(r_k(x, first) - r_k(x, second))`` of each member.

    Args:
        member_rewards: (N, 2, K) rewards of the two responses of N duels.

    Returns:
        (N, K). Their mean over members is the ensemble's prediction.
    """
    difference = np.asarray(member_rewards[:, 0] - member_rewards[:, 1], dtype=np.float64)
    return 0.5 * (1.0 + np.tanh(0.5 * difference))


def member_disagreement(member_rewards: np.ndarray) -> float:
    """Standard deviation over members of the win probability, averaged over duels.

    Args:
        member_rewards: (N, 2, K) rewards of the two responses of N duels.

    Returns:
        In [0, 0.5]; NaN without duels, and for K = 1: there is nobody to disagree.
    """
    if len(member_rewards) == 0 or member_rewards.shape[2] < 2:
        return float("nan")
    return float(win_probabilities(member_rewards).std(axis=1).mean())


def argmax_agreement(rewards: np.ndarray, texts: np.ndarray) -> float:
    """Mean share of members whose favourite is the most popular one.

    Favourites are the same if their texts are. Prompts whose candidates are all one text
    say nothing and are left out.

    Args:
        rewards: (K, B, M) rewards of M candidates for each of B prompts.
        texts: (B, M) text identities: equal numbers in a row are equal texts.

    Returns:
        In [1 / K, 1]; NaN if no prompt is left, and for K = 1.
    """
    choice = (texts != texts[:, :1]).any(axis=1)
    if len(rewards) < 2 or not choice.any():
        return float("nan")
    favourites = rewards[:, choice].argmax(axis=2)  # (K, B')
    liked = np.take_along_axis(texts[choice], favourites.T, axis=1)  # (B', K)
    shares = (liked[:, :, None] == liked[:, None, :]).mean(axis=2)
    return float(shares.max(axis=1).mean())


@dataclass(frozen=True, slots=True)
class CalibrationBins:
    """Predictions by how sure they were: 10 equal bins of confidence between 0.5 and 1.

    The confidence is the probability of the response that is predicted to win.

    Attributes:
        counts: (10,) predictions in each bin.
        confidence: (10,) their summed confidence.
        right: (10,) how many of them were right.
        gaps: (10,) the sum of right (1 or 0) less confidence.
    """

    counts: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    gaps: np.ndarray


def calibration_bins(probabilities: np.ndarray, outcomes: np.ndarray) -> CalibrationBins:
    """Sorts predictions by their confidence.

    Args:
        probabilities: (N,) predicted probability that the first response wins.
        outcomes: (N,) bool, whether it did.
    """
    confidence = np.maximum(probabilities, 1.0 - probabilities)
    right = (probabilities >= 0.5) == outcomes
    bins = np.minimum((2.0 * NUM_BINS * (confidence - 0.5)).astype(int), NUM_BINS - 1)
    sums = (
        np.bincount(bins, weights=weights, minlength=NUM_BINS)
        for weights in (None, confidence, right, right - confidence)
    )
    return CalibrationBins(*sums)


class CalibrationWindow:
    """Expected calibration error over the latest labels that prefer a response.

    ``sum_b n_b / n * |share of right predictions in b - mean confidence in b|`` (Guo et al.,
    arXiv 1706.04599, Eq. 3), over :func:`calibration_bins`.

    Args:
        size: How many labels the window holds.
    """

    def __init__(self, size: int = WINDOW_SIZE) -> None:
        self._size = size
        self._probabilities = np.empty(0)
        self._outcomes = np.empty(0, dtype=bool)

    def add(self, probabilities: np.ndarray, outcomes: np.ndarray) -> None:
        """Adds predictions and what came of them.

        Args:
            probabilities: (N,) predicted probability that the first response wins.
            outcomes: (N,) bool, whether it did.
        """
        self._probabilities = np.append(self._probabilities, probabilities)[-self._size :]
        self._outcomes = np.append(self._outcomes, np.asarray(outcomes, bool))[-self._size :]

    @property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) probabilities and (N,) outcomes, the latest last."""
        return self._probabilities, self._outcomes

    def error(self) -> float:
        """The error, in [0, 1]; NaN if nothing was added."""
        if len(self._outcomes) == 0:
            return float("nan")
        bins = calibration_bins(self._probabilities, self._outcomes)
        return float(np.abs(bins.gaps).sum() / len(self._outcomes))

    def get_state(self) -> dict[str, Any]:
        """The window's contents."""
        return {"probabilities": self._probabilities.copy(), "outcomes": self._outcomes.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Replaces the contents by those of :meth:`get_state`."""
        self._probabilities = np.array(state["probabilities"], dtype=float)[-self._size :]
        self._outcomes = np.array(state["outcomes"], dtype=bool)[-self._size :]


class CollapseWatch:
    """Notices when the members have become one: Thompson sampling then explores no more.

    A round counts as collapsed if ``argmax_agreement > 0.95`` and ``member_disagreement <
    0.01``. The first says that of 20 members fewer than one has a favourite of its own, so that
    two draws nearly always propose the same response; the second that a member moves a
    label's probability by less than a hundredth, so that there is no variance to choose by.
    Each alone is harmless: one candidate may be better by far, and fresh heads give nearly
    the same probabilities but have all kinds of favourites.
    """

    AGREEMENT = 0.95
    DISAGREEMENT = 0.01
    ROUNDS = 3

    def __init__(self) -> None:
        self._streak = 0

    def update(self, argmax_agreement: float, member_disagreement: float) -> str | None:
        """Looks at a round's figures.

        Args:
            argmax_agreement: From :func:`argmax_agreement`.
            member_disagreement: From :func:`member_disagreement`. A round in which either is
                NaN is not counted, so that an ensemble of one never collapses.

        Returns:
            A warning in the third collapsed round in a row; None before, after, and elsewhere.
        """
        if np.isnan(argmax_agreement) or np.isnan(member_disagreement):
            return None
        collapsed = argmax_agreement > self.AGREEMENT and member_disagreement < self.DISAGREEMENT
        self._streak = self._streak + 1 if collapsed else 0
        if self._streak != self.ROUNDS:
            return None
        return (
            f"the ensemble has collapsed: for {self.ROUNDS} rounds its members have had the same "
            f"favourites (argmax_agreement {argmax_agreement:.3f}) and given the same "
            f"probabilities (member_disagreement {member_disagreement:.4f}), so duels are no "
            "longer chosen by what the ERM does not know; try erm_prior_scale above 0, "
            "erm_bootstrap below 1, a larger ensemble_size, a larger erm_lambda or "
            "erm_lambda_fades false"
        )

    def get_state(self) -> dict[str, Any]:
        """How many collapsed rounds there were in a row."""
        return {"streak": self._streak}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over :meth:`get_state`."""
        self._streak = int(state["streak"])
