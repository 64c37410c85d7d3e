"""A readable file of sample duels and of what the policy answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rllib_sea.duels.records import Candidate, Duel
from rllib_sea.duels.rounds import EvaluatedPrompt

SAMPLES_PER_ROUND = 2
DUELS_FILE = "sample_duels.md"
RESPONSES_FILE = "sample_responses.md"
# What :func:`sizes` returns when a run begins.
NO_SAMPLES = {DUELS_FILE: 0, RESPONSES_FILE: 0}


def append_duels(folder: Path, duels: Sequence[Duel]) -> None:
    """Appends a round's first duels to ``sample_duels.md``.

    Args:
        folder: The run's folder.
        duels: The round's duels.
    """
    with (folder / DUELS_FILE).open("a", encoding="utf-8") as file:
        for duel in duels[:SAMPLES_PER_ROUND]:
            file.write(_duel_text(duel))


def append_responses(
    folder: Path, evaluated: Sequence[EvaluatedPrompt], num_oracle_queries: int
) -> None:
    """Appends an evaluation's first responses to ``sample_responses.md``."""
    with (folder / RESPONSES_FILE).open("a", encoding="utf-8") as file:
        file.write(f"# After {num_oracle_queries} queries\n\n")
        for prompt in evaluated[:SAMPLES_PER_ROUND]:
            file.write(f"**{prompt.prompt_id}** {_quote(prompt.prompt_text)}")
            for name, outcome in (("Response", prompt.greedy), ("Best of N", prompt.best_of_n)):
                if outcome is not None:
                    file.write(
                        f"{name} (score {outcome.score:.2f}, "
                        f"p(win over initial) {outcome.win_vs_initial:.2f}):\n"
                        f"{_quote(outcome.response)}"
                    )


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the two files, by name; 0 if there is none yet."""
    files = {name: folder / name for name in NO_SAMPLES}
    return {name: path.stat().st_size if path.is_file() else 0 for name, path in files.items()}


def truncate(folder: Path, to: Mapping[str, int]) -> None:
    """Takes off what was appended after :func:`sizes` was called, if the files are there."""
    for name, size in to.items():
        path = folder / name
        if path.is_file() and path.stat().st_size > size:
            os.truncate(path, size)


def _duel_text(duel: Duel) -> str:
    labelled = "ERM member" if duel.synthetic else "oracle"
    lines = [
        f"# Round {duel.round}, {duel.prompt_id}: label by the {labelled}\n\n",
        _quote(duel.prompt_text),
    ]
    for place, (name, candidate) in enumerate((("First", duel.first), ("Second", duel.second))):
        rewards = duel.member_rewards[place]
        won = duel.first_wins == (place == 0)
        mark = " (tie)" if duel.label.is_tie else " (preferred)" if won else ""
        lines.append(
            f"**{name}{mark}**, {_length(candidate)}, oracle score "
            f"{duel.scores[place]:.2f}, member rewards {rewards.mean():+.3f} "
            f"(sd {rewards.std():.3f}; {', '.join(f'{r:+.2f}' for r in rewards)})\n"
            f"{_quote(candidate.text)}"
        )
    return "".join(lines)


def _length(candidate: Candidate) -> str:
    cut = "" if candidate.finish_reason == "stop" else ", cut"
    return f"{len(candidate.token_ids)} tokens{cut}"


def _quote(text: str) -> str:
    return "\n" + "".join(f"> {line}\n" for line in (text or "(empty)").splitlines()) + "\n"
