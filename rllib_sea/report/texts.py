"""What is shown of runs in words: held-out prompts before and after, and the hardest duels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rllib_sea.preference_log.reader import PreferenceReader
from rllib_sea.preference_log.records import LogEntry, PreferenceLogError
from rllib_sea.report.curves import ensemble_probability, fresh_labels, member_probabilities
from rllib_sea.report.runs import Row, Run

NUM_PROMPTS = 5
NUM_DUELS = 5
PROMPTS_RULE = (
    f"The first {NUM_PROMPTS} held-out prompts by the alphabetical order of their ids, "
    "whatever became of them: not the best."
)


@dataclass(frozen=True)
class HeldOutPrompt:
    """A held-out prompt, and what each run answers to it.

    Attributes:
        first: The row of the first run that has the prompt: its text, reference, and what was
            answered initially.
        last: By run's place, the row of its newest evaluation.
    """

    first: Row
    last: dict[int, Row]


@dataclass(frozen=True)
class HardDuel:
    """A real duel that the ensemble found hard.

    Attributes:
        row: Of ``duels.jsonl``.
        probability: The ensemble's, that the first response is preferred.
        spread: Its standard deviation over members.
        entry: Of the preference log, which has the texts; None if it cannot be read.
    """

    row: Row
    probability: float
    spread: float
    entry: LogEntry | None

    @property
    def outcome(self) -> str:
        """What the label says."""
        preference = self.row["preference"]
        if preference == 0.5:
            return "tie"
        return "first" if preference > 0.5 else "second"


def before_and_after(runs: Sequence[Run]) -> list[HeldOutPrompt]:
    """The prompts of :data:`PROMPTS_RULE` that any run has answered."""
    newest = [_newest_responses(run) for run in runs]
    ids = sorted({prompt_id for rows in newest for prompt_id in rows})[:NUM_PROMPTS]
    prompts = []
    for prompt_id in ids:
        last = {place: rows[prompt_id] for place, rows in enumerate(newest) if prompt_id in rows}
        prompts.append(HeldOutPrompt(next(iter(last.values())), last))
    return prompts


def _newest_responses(run: Run) -> dict[str, Row]:
    """The newest evaluation by prompt id; a part of one if the run was killed as it wrote it."""
    return {str(row["prompt_id"]): row for row in run.responses}


def hardest_duels(run: Run) -> tuple[list[HardDuel], list[HardDuel]]:
    """Real duels whose outcome the ensemble knew least, and those that it was most wrong about.

    The first have a probability nearest to 1/2; to the preferred response of the second it gave
    the least. Both by what the ensemble thought before it learned from the label.
    """
    rows = [(row, ensemble_probability(row)) for row in fresh_labels(run)]
    unsure = sorted(rows, key=lambda of: abs(of[1] - 0.5))[:NUM_DUELS]
    wrong = [(row, p) for row, p in rows if (p - 0.5) * (row["preference"] - 0.5) < 0.0]
    wrong = sorted(wrong, key=lambda of: -abs(of[1] - 0.5))[:NUM_DUELS]
    entries = _entries(run, [row for row, _ in (*unsure, *wrong)])
    hard = [
        HardDuel(row, p, float(member_probabilities(row).std()), entries.get(_place(row)))
        for row, p in (*unsure, *wrong)
    ]
    return hard[: len(unsure)], hard[len(unsure) :]


def _place(row: Row) -> tuple[int, int]:
    return row["asked_in"], row["position"]


def _entries(run: Run, rows: Sequence[Row]) -> dict[tuple[int, int], LogEntry]:
    """Questions of the preference log by round and position; none if it cannot be read."""
    if not rows:
        return {}
    wanted = {_place(row) for row in rows}
    try:
        with PreferenceReader(run.log) as log:
            places = log.query("SELECT id, round, position FROM questions WHERE purpose = 'label'")
            ids = [key for key, *place in places if tuple(place) in wanted]
            return {entry.question.place: entry for entry in log.entries(ids)}
    except PreferenceLogError:  # the section on labels says so
        return {}
