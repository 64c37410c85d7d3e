"""Prompts that give no duel: told once per reason, and the end of a run that gets nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rllib_sea.duels.selection import INCOMPLETE, NON_FINITE, ONE_TEXT, SKIP_REASONS

# A run whose candidates are always one text would never use its budget.
MAX_ROUNDS_WITHOUT_DUELS = 10
_COLLAPSED = (
    ". A policy that was trained and now gives one response has gone too far: look at "
    "evaluation/kl, and try a smaller policy_lr or a larger beta; an untrained one may need a "
    "higher temperature or more max_new_tokens"
)


class SkippedPrompts:
    """Watches the prompts without a duel.

    Args:
        warn: Told of the first one of each reason that points to a fault.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned: set[str] = set()
        self._rounds_without_duels = 0

    def check(self, has_duels: bool, skipped: Mapping[str, Sequence[str]]) -> int:
        """Looks at a round.

        Args:
            has_duels: Whether it has any.
            skipped: Ids of the prompts that have none, by a reason of :data:`SKIP_REASONS`.

        Returns:
            How many prompts have none.

        Raises:
            RuntimeError: No prompt of ten rounds in a row had one.
        """
        for reason in (INCOMPLETE, NON_FINITE):
            if skipped[reason] and reason not in self._warned:
                self._warned.add(reason)
                self._warn(
                    f"a prompt without a duel, {skipped[reason][0]!r}: {SKIP_REASONS[reason]}; "
                    f"from now on see duels/num_skipped_{reason}"
                )
        self._rounds_without_duels = 0 if has_duels else self._rounds_without_duels + 1
        if self._rounds_without_duels == MAX_ROUNDS_WITHOUT_DUELS:
            reasons = [f"{SKIP_REASONS[r]}: {len(ids)}" for r, ids in skipped.items() if ids]
            raise RuntimeError(
                f"{MAX_ROUNDS_WITHOUT_DUELS} rounds in a row without a duel "
                f"(prompts of the last one: {'; '.join(reasons)})"
                + (_COLLAPSED if skipped[ONE_TEXT] else "")
            )
        return sum(map(len, skipped.values()))
