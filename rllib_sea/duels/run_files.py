"""What a run appends to files of its own as it goes: duels, to read and as data, and responses."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_sea.duels.records import Candidate, Duel
from rllib_sea.duels.rounds import EvaluatedPrompt, Outcome

SAMPLES_PER_ROUND = 2
SAMPLE_DUELS_FILE = "sample_duels.md"
DUELS_FILE = "duels.jsonl"
RESPONSES_FILE = "responses.jsonl"
# What :func:`sizes` returns when a run begins.
NOTHING_WRITTEN = {SAMPLE_DUELS_FILE: 0, DUELS_FILE: 0, RESPONSES_FILE: 0}


def append_duels(folder: Path, round_index: int, duels: Sequence[Duel]) -> None:
    """Appends a round's duels to ``duels.jsonl``, and the first of them to ``sample_duels.md``.

    A row of ``duels.jsonl`` has what the preference log does not: the duels that the ERM labelled,
    and what each member thought of both responses before the label was learned from. Texts of real
    duels are in the log, under ``asked_in`` and ``position``.

    Args:
        folder: The run's folder.
        round_index: The round that learns from them.
        duels: Its duels, those with late labels included.
    """
    with (folder / SAMPLE_DUELS_FILE).open("a", encoding="utf-8") as file:
        for duel in duels[:SAMPLES_PER_ROUND]:
            file.write(_duel_text(duel))
    rows = (
        {
            "round": round_index,
            "asked_in": duel.round,
            "position": duel.position,
            "prompt_id": duel.prompt_id,
            "synthetic": duel.synthetic,
            "preference": duel.label.preference,
            "weight": duel.label.weight,
            "win_probability": duel.win_probability,
            "scores": list(duel.scores),
            "member_rewards": [
                [float(f"{r:.7g}") for r in of_one] for of_one in duel.member_rewards
            ],
        }
        for duel in duels
    )
    _append_rows(folder / DUELS_FILE, rows)


def append_responses(
    folder: Path, round_index: int, num_oracle_queries: int, evaluated: Sequence[EvaluatedPrompt]
) -> None:
    """Appends an evaluation to ``responses.jsonl``: a row per held-out prompt, whole by itself.

    Args:
        folder: The run's folder.
        round_index: Rounds before the evaluation.
        num_oracle_queries: Queries before it.
        evaluated: What was answered, and how it compares.
    """
    rows = (
        {
            "round": round_index,
            "num_oracle_queries": num_oracle_queries,
            "prompt_id": prompt.prompt_id,
            "prompt": prompt.prompt_text,
            "reference": prompt.reference,
            "initial_response": prompt.initial_response,
            "initial_score": prompt.initial_score,
            **_outcome(prompt.greedy),
            "kl": prompt.kl,
            "best_of_n": None if prompt.best_of_n is None else _outcome(prompt.best_of_n),
            "samples": [_outcome(outcome) for outcome in prompt.samples],
        }
        for prompt in evaluated
    )
    _append_rows(folder / RESPONSES_FILE, rows)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    row = dataclasses.asdict(outcome)
    del row["num_questions"]
    return row


def _append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON has no NaN: what was not measured is null."""
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_without_nan(row), ensure_ascii=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file, by name; 0 if there is none yet."""
    files = {name: folder / name for name in NOTHING_WRITTEN}
    return {name: path.stat().st_size if path.is_file() else 0 for name, path in files.items()}


def truncate(folder: Path, to: Mapping[str, int]) -> None:
    """Takes off what was appended after :func:`sizes` was called, if the files are there."""
    for name, size in to.items():
        path = folder / name
        if path.is_file() and path.stat().st_size > size:
            os.truncate(path, size)


def _duel_text(duel: Duel) -> str:
    labelled = "ERM" if duel.synthetic else "oracle"
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
