"""How many raters judge a question of a log, and what its label is made of."""

from __future__ import annotations

from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import Purpose
from rllib_sea.randomness import Stream, generator


class Judging:
    """Decides who judges; the same after a restart.

    Args:
        log: The log.
        labels_by: A name of :data:`text_duel.verdict_rules.LABEL_RULES`.
        raters_per_question: How many raters judge a question.
        overlap: The share of questions that one more judges.
    """

    def __init__(
        self,
        log: PreferenceLog,
        labels_by: str = "single",
        raters_per_question: int = 1,
        overlap: float = 0.0,
    ) -> None:
        self._log = log
        self._labels_by = labels_by
        self._raters_per_question = raters_per_question
        self._overlap = overlap

    def wanted(self, purpose: Purpose, round_index: int, position: int) -> int:
        """How many raters judge a question: of those that no label comes of, one."""
        if purpose != "label":
            return 1
        if not self._overlap:
            return self._raters_per_question
        rng = generator(self._log.run.seed, round_index, position, Stream.OVERLAP)
        return self._raters_per_question + (rng.random() < self._overlap)

    def wanted_of(self, key: int) -> int:
        """The same, by the question's id."""
        return self.wanted(*self._place(key))

    def rule_of(self, key: int) -> tuple[str, int]:
        """By which rule a question is labelled, and how many verdicts that takes."""
        purpose, _, _ = place = self._place(key)
        if purpose != "label" or self._labels_by == "single":
            return "single", 1
        return self._labels_by, self.wanted(*place)

    def _place(self, key: int) -> tuple[Purpose, int, int]:
        return next(
            self._log.query("SELECT purpose, round, position FROM questions WHERE id = ?", key)
        )
