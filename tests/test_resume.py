"""A whole run, killed as by a power cut and resumed as a user would."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from killed_runs import NAME, TrainCommand, write_recipe

import text_duel
from rllib_sea.duels.log_records import LogEntry
from rllib_sea.duels.preference_log import LOG_FILE, PreferenceReader

BUDGET = 28
ROOT = Path(__file__).resolve().parent.parent


def trial_folder(folder: Path) -> Path:
    (trial,) = (folder / NAME).glob("SEA_*")
    return trial


def logged(folder: Path) -> list[LogEntry]:
    with PreferenceReader(trial_folder(folder) / LOG_FILE) as log:
        return list(log.read())


def as_answered(entry: LogEntry) -> str:
    question = entry.question
    return f"{question.prompt_id} {question.first.text!r} {question.second.text!r}"


def answered(folder: Path) -> list[str]:
    """What the oracle answered, without the evaluation's questions."""
    training = {prompt.id for prompt in text_duel.load_prompts("tldr_mini")}
    lines = (folder / "answered").read_text().splitlines()
    return [line for line in lines if line.split()[0] in training]


def test_a_killed_run_goes_on_and_no_question_is_lost_or_asked_twice(
    tiny_policy: Path, tmp_path: Path
) -> None:
    write_recipe(
        tmp_path,
        tiny_policy,
        "tests.away_oracle:AwayOracle",
        {"folder": str(tmp_path)},
        query_budget=BUDGET,
    )
    with TrainCommand(tmp_path, import_path=[ROOT]) as command:
        assert command.wait_for("round 2,", 120), command.output
        assert command.kill() == []
    assert "finished" not in command.output
    before = logged(tmp_path)
    pending = {as_answered(entry) for entry in before if entry.answer is None}
    given = {as_answered(e): e.answer for e in before if e.answer is not None}
    assert 16 <= len(given) < BUDGET

    with TrainCommand(tmp_path, ["--resume"], import_path=[ROOT]) as command:
        assert command.wait(120) == 0, command.output
        assert f"finished after {BUDGET} queries, 4 rounds" in command.output
    results = [json.loads(line) for line in (trial_folder(tmp_path) / "result.json").open()]
    after = logged(tmp_path)

    assert results[-1]["num_oracle_queries"] == len(after) == BUDGET
    assert all(entry.answer is not None for entry in after)
    assert len({(e.question.round, e.question.position) for e in after}) == BUDGET
    assert {as_answered(e): e.answer for e in after if as_answered(e) in given} == given
    times = Counter(answered(tmp_path))
    assert set(times) == set(map(as_answered, after))
    assert {question for question, n in times.items() if n > 1} <= pending
    # Rounds that Tune's state at the kill did not have are done again, and are the same.
    curve = {row["round"]: (row["num_oracle_queries"], row["policy"]["loss"]) for row in results}
    assert list(curve) == [1, 2, 3, 4]
    for row in results:
        assert (row["num_oracle_queries"], row["policy"]["loss"]) == curve[row["round"]]
