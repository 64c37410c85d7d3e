"""Questions and verdicts for tests of the preference log, and the writer that is killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import Question, RunRecord
from text_duel.verdicts import Verdict

RUN = RunRecord(run_id="run-a", seed=3, policy_model="tiny", chat=True)


def response(text: str, *, from_end: float = 0.1) -> Candidate:
    """One token a character; log-probabilities that no decimal number of few digits equals."""
    return Candidate(
        text=text,
        token_ids=tuple(map(ord, text)),
        logprobs=tuple(-from_end / (i + 3) for i in range(len(text))),
        finish_reason="stop" if text.endswith(".") else "length",
    )


def question(round_index: int, position: int, **changes: Any) -> Question:
    """A question whose texts tell it apart."""
    name = f"{round_index}/{position}"
    fields: dict[str, Any] = {
        "round": round_index,
        "position": position,
        "prompt_id": f"post-{position}",
        "prompt_text": f"Summarise post {position} \N{SNOWMAN} of {name}:\n\n  TL;DR:",
        "prompt_token_ids": (5, round_index, position),
        "first": response(f"first of {name}."),
        "second": response(f"second of {name}"),
        "from_reference": (False, True),
        "member": position,
        "policy_version": round_index,
        "strategy": "bai_ts",
        "oracle": "length-1",
        "labels": "bradley_terry",
        "flip_noise": 0.1,
    }
    return Question(**(fields | changes))


def verdict(choice: Any = "first", **changes: Any) -> Verdict:
    """A verdict of the oracle of :func:`question`."""
    fields: dict[str, Any] = {"win_probability": 2 / 3, "scores": (0.1, -0.7)}
    return Verdict(choice, **(fields | changes))


def give(
    log: PreferenceLog, round_index: int, verdicts: Mapping[int, Verdict], rater: str = "length-1"
) -> None:
    """Gives verdicts by the positions of their questions."""
    ids = {entry.question.position: entry.id for entry in log.round(round_index)}
    log.give(rater, {ids[position]: given for position, given in verdicts.items()})


def fill(path: Path, run: RunRecord = RUN) -> None:
    """A log of two rounds: first, second, tie, skip; first, second, open."""
    with PreferenceLog(path, run) as log:
        log.ask(0, [question(0, i) for i in range(4)])
        choices = ("first", "second", "tie", "skip")
        give(log, 0, {i: verdict(choice) for i, choice in enumerate(choices)})
        log.close_round(0)
        log.ask(1, [question(1, i, strategy="passive", member=None) for i in (2, 0, 1)])
        give(log, 1, {0: verdict()})
        give(log, 1, {1: verdict("second", strength=2.0)}, "ann")


def _tell(*words: object) -> None:
    """Prints a line in one write: a killed process has printed it, or has not."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def _write_until_killed(path: Path) -> None:
    """Prints what is committed: ``asked r`` and ``answered r p``."""
    with PreferenceLog(path, RUN) as log:
        done = log.query("SELECT coalesce(max(round) + 1, 0) FROM questions")
        round_index = next(done)[0]
        while True:
            log.ask(round_index, [question(round_index, i) for i in range(3)])
            _tell("asked", round_index)
            for position in range(3):
                give(log, round_index, {position: verdict()})
                _tell("answered", round_index, position)
            round_index += 1


def _start_writers() -> None:
    """For each line of standard input, a log's path: starts a writer and waits for its end.

    Prints the writer's process id, what it prints, and ``ended <signal>``.
    """
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _tell(os.getpid())
            _write_until_killed(Path(line.strip()))
        _, status = os.waitpid(child, 0)
        _tell("ended", os.WTERMSIG(status))


if __name__ == "__main__":
    _start_writers()
