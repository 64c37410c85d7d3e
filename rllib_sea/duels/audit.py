"""Is the ERM right often enough to teach the policy? Each label is a test that it had not seen.

Found in no paper. SEA mixes by a schedule (section 4.2.3); D2PO (arXiv 2405.01511) finds that own
labels help only while the model that gives them is right about what the policy says now. Here every
label of the oracle tests the ERM before it is learned, and the policy learns from the ERM, from
pairs that it labels or with ``loss: reinforce`` from its view of all candidates, while

    wilson_low(right of the last n, n) >= audit_threshold

with the lower end of Wilson's 95% interval (:func:`rllib_sea.statistics.wilson_interval`). Without
a test the bound is 0, so that the policy begins with the oracle's labels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_sea.duels.records import Duel
from rllib_sea.settings.duels import Duels
from rllib_sea.statistics import wilson_interval


def foreseen(member_rewards: np.ndarray, first_wins: np.ndarray) -> np.ndarray:
    """Whether the members' mean reward prefers the response that was preferred.

    Args:
        member_rewards: (N, 2, K) rewards of the first and second responses, from before their
            labels were learned.
        first_wins: (N,) bool labels.

    Returns:
        (N,) bool; equal rewards foresee nothing.
    """
    margin = (member_rewards[:, 0] - member_rewards[:, 1]).mean(axis=1)
    return np.where(first_wins, margin > 0, margin < 0)


class Audit:
    """A sliding window of tests, and what follows from it.

    Args:
        keys: The threshold, the window, and whether tests are own pairs alone.
        note: Told when the policy begins to learn from the ERM.
        warn: Told when it stops.
    """

    def __init__(
        self, keys: Duels, note: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self._keys = keys
        self._tell = {True: note, False: warn}
        self._right = np.empty(0, dtype=bool)
        self._told: list[bool] = []

    @property
    def low(self) -> float:
        """The lower end of the interval of how often the ERM is right; 0 without tests."""
        num = len(self._right)
        return wilson_interval(float(self._right.mean()), num)[0] if num else 0.0

    @property
    def trusted(self) -> bool:
        """Whether the policy may learn from the ERM."""
        threshold = self._keys.audit_threshold
        return threshold is None or self.low >= threshold

    def test(self, right: np.ndarray, num_queries: int) -> dict[str, float]:
        """Adds tests.

        Args:
            right: (N,) bool, whether the ERM was right about labels that it had not seen.
            num_queries: Labels asked for so far, for what is told.

        Returns:
            Metrics of the group ``reward_model``; none without a threshold or without tests.
        """
        threshold, before = self._keys.audit_threshold, self.trusted
        if threshold is None:
            return {}
        self._right = np.append(self._right, right)[-self._keys.audit_window :]
        if len(self._right) == 0:
            return {}
        share, num = float(self._right.mean()), len(self._right)
        if self.trusted != before and self.trusted not in self._told:
            self._told.append(self.trusted)
            learns = "learns" if self.trusted else "no longer learns"
            self._tell[self.trusted](
                f"after {num_queries} labels the policy {learns} from the ERM: it was right about "
                f"{share:.0%} of the last {num} that it had not seen, at least {self.low:.0%} with "
                f"95% confidence (audit_threshold {threshold:g}); from now on see "
                "reward_model/audit_bound"
            )
        return {"audit_accuracy": share, "audit_bound": self.low, "audit_labels": float(num)}

    def test_duels(self, duels: Sequence[Duel], num_queries: int) -> dict[str, float]:
        """Adds a round's labelled duels as tests, from before the ERM learns from them.

        Args:
            duels: The round's; synthetic ones and ties are no tests, and with an ``audit_share``
                only audited pairs are.
            num_queries: See :meth:`test`.
        """
        tests = [
            duel
            for duel in duels
            if not (duel.synthetic or duel.label.is_tie)
            and (duel.audited or not self._keys.audit_share)
        ]
        if not tests:
            return self.test(np.empty(0, dtype=bool), num_queries)
        rewards = np.stack([duel.member_rewards for duel in tests])
        first_wins = np.array([duel.first_wins for duel in tests])
        return self.test(foreseen(rewards, first_wins), num_queries)

    def get_state(self) -> dict[str, Any]:
        """The window, and what was told."""
        return {"right": self._right.copy(), "told": list(self._told)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over :meth:`get_state`."""
        self._right = np.array(state["right"], dtype=bool)
        self._told = list(state["told"])
