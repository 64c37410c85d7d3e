"""What is put before raters to see how well they judge: gold questions, and repeats.

Neither is a query of the budget, and nothing is learned from them; see docs/labelling.md.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import Question
from rllib_sea.randomness import Stream, generator
from text_duel.oracles.gold import GoldQuestion

# How many other answers of the rater are between a question and its repetition, at least.
REPEAT_AFTER = 10


class Checks:
    """Decides when a rater is checked, and by what; the same after a restart.

    Args:
        log: The log, which nobody else writes.
        gold: Gold questions; those that the log lacks are written to it.
        gold_share: Of how many questions of a rater one of these comes before it.
        repeat_share: Likewise, one that the rater has judged before.
        oracle: The name of who is asked.
    """

    def __init__(
        self,
        log: PreferenceLog,
        gold: Sequence[GoldQuestion] = (),
        gold_share: float = 0.0,
        repeat_share: float = 0.0,
        oracle: str = "people",
    ) -> None:
        self._log = log
        self._gold_share = gold_share
        self._repeat_share = repeat_share
        self._gold = self._written(gold, oracle) if gold else []
        self._had: defaultdict[str, set[int]] = defaultdict(set)  # all but repeats
        self._repeated: defaultdict[str, set[int]] = defaultdict(set)
        self._open: defaultdict[str, list[int]] = defaultdict(list)
        judged = set(log.query("SELECT question_id, rater FROM standing_verdicts"))
        for rater, key, purpose, repeats in log.query(
            "SELECT DISTINCT rater, question_id, purpose, repeats FROM leases "
            "JOIN questions ON questions.id = question_id "
            "ORDER BY leases.id"
        ):
            if repeats is not None:
                self._repeated[rater].add(repeats)
            else:
                self._had[rater].add(key)
            if purpose in ("gold", "repeat") and (key, rater) not in judged:
                self._open[rater].append(key)

    def open_ids(self, rater: str) -> list[int]:
        """Checks that a rater has before them."""
        return self._open[rater]

    def before(self, key: int, rater: str) -> int | None:
        """What is put before a rater ahead of another question.

        Args:
            key: The question, which is put before them.
            rater: Who.

        Returns:
            The id of the check, to be leased to them; None if there is none.
        """
        had = self._had[rater]
        if key in had or not self._gold_share + self._repeat_share:
            return None
        number = len(had)
        had.add(key)
        rng = generator(self._log.run.seed, number, 0, Stream.CHECKS, rater)
        drawn = rng.random()
        check = None
        if drawn < self._gold_share:
            check = next((key for key in self._gold if key not in had), None)
            if check is not None:
                had.add(check)
        elif drawn < self._gold_share + self._repeat_share:
            candidates = self._repeatable(rater)
            if candidates:
                again = candidates[int(rng.integers(len(candidates)))]
                self._repeated[rater].add(again)
                check = self._log.repeat(again)
        if check is not None:
            self._open[rater].append(check)
        return check

    def answered(self, key: int, rater: str) -> bool:
        """Notes an answer; returns whether it was to a check."""
        if key not in self._open[rater]:
            return False
        self._open[rater].remove(key)
        return True

    def _repeatable(self, rater: str) -> list[int]:
        rows = self._log.query(
            "SELECT question_id, purpose, choice FROM standing_verdicts AS verdicts "
            "JOIN questions ON questions.id = question_id WHERE rater = ? ORDER BY verdicts.id",
            rater,
        )
        return [
            key
            for key, purpose, choice in list(rows)[:-REPEAT_AFTER]
            if purpose == "label" and choice != "skip" and key not in self._repeated[rater]
        ]

    def _written(self, gold: Sequence[GoldQuestion], oracle: str) -> list[int]:
        """Ids of gold questions in the log; those that it lacks are written to it."""
        rounds = self._log.query("SELECT max(round) + 1 FROM questions WHERE purpose = 'gold'")
        ((new_round,),) = rounds
        known = {_identity(entry.question): entry.id for entry in self._log.read("gold")}
        questions = [_question(one, new_round or 0, i, oracle) for i, one in enumerate(gold)]
        new = [question for question in questions if _identity(question) not in known]
        if new:
            entries = self._log.ask(new_round or 0, new, "gold")
            known |= {_identity(entry.question): entry.id for entry in entries}
        return [known[_identity(question)] for question in questions]


def _identity(question: Question) -> str:
    return json.dumps([question.prompt, question.first.text, question.second.text])


def _question(gold: GoldQuestion, round_index: int, position: int, oracle: str) -> Question:
    """A gold question as it is written: no policy sampled it, and the first response is better."""
    return Question.imported(
        gold.prompt,
        Candidate(gold.chosen, (), (), "stop"),
        Candidate(gold.rejected, (), (), "stop"),
        oracle=oracle,
        prompt_id=f"gold-{position:04d}",
        position=position,
        round=round_index,
        purpose="gold",
    )
