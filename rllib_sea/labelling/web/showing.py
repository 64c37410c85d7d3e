"""Questions as raters see them: which response stands on which side."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rllib_sea.labelling.web.desk_records import ShownQuestion, Turn, page_choice
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.rows import listed
from rllib_sea.randomness import Stream, generator
from text_duel.conversations import as_messages
from text_duel.verdicts import Side, Verdict


class Showing:
    """Shows the questions of a log; the same to a rater whenever they ask.

    Args:
        log: The log.
    """

    def __init__(self, log: PreferenceLog) -> None:
        self._log = log

    def shown(
        self, ids: Sequence[int], rater: str, round_now: int, standing: Verdict | None = None
    ) -> list[ShownQuestion]:
        """Questions as a rater sees them.

        Args:
            ids: Of questions.
            rater: Who.
            round_now: The round of those that no round asked for labels: they look like others.
            standing: The rater's verdict on them, if it is taken back.
        """
        found = {
            row[0]: row
            for row in self._log.query(
                "SELECT id, purpose, round, prompt_text, prompt_messages, first_text, second_text "
                f"FROM questions WHERE id IN ({listed(ids)})"
            )
        }
        shown = []
        for key in ids:
            _, purpose, round_index, text, messages, *responses = found[key]
            left = self.left(key, rater)
            turns = as_messages(text if messages is None else json.loads(messages))
            shown.append(
                ShownQuestion(
                    id=key,
                    round=round_index if purpose == "label" else round_now,
                    prompt=tuple(Turn(turn["role"], turn["content"]) for turn in turns),
                    left=responses[left != "first"],
                    right=responses[left == "first"],
                    answered=None if standing is None else page_choice(standing.choice, left),
                )
            )
        return shown

    def left(self, key: int, rater: str) -> Side:
        """Which response a rater sees on the left: drawn for them and this question.

        Of a question that is repeated it is the other one than before.
        """
        ((repeats, round_index, position),) = self._log.query(
            "SELECT repeats, round, position FROM questions WHERE id = ?", key
        )
        if repeats is not None:
            return "second" if self.left(repeats, rater) == "first" else "first"
        rng = generator(self._log.run.seed, round_index, position, Stream.SIDES, rater)
        return "first" if rng.random() < 0.5 else "second"
