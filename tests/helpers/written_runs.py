"""A run's folder without the run: what it writes, by the functions that it writes with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rllib_sea.duels.records import Candidate, Duel
from rllib_sea.duels.rounds import EvaluatedPrompt, Outcome
from rllib_sea.duels.run_files import append_duels, append_responses
from rllib_sea.evaluation import summarise
from rllib_sea.machine import append_start
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.preference_log.records import Question, RunRecord
from text_duel.verdicts import Label, Verdict

LABELS = 4  # real ones of a round; half as many are the ensemble's own


def write_run(
    folder: Path, rounds: int = 4, *, seed: int = 0, response: str = "A dog.", **config: Any
) -> Path:
    """Writes a run that ended after some rounds, each with an evaluation of seven prompts.

    Args:
        folder: A new one.
        rounds: How many.
        seed: Of all that is drawn.
        response: What every response contains.
        config: Of `params.json`.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    append_start(folder, {"CPU": 2.0, "GPU": 1.0, "accelerator_type:H200": 1.0})
    (folder / "params.json").write_text(json.dumps({"seed": seed} | config))
    with PreferenceLog(folder / LOG_FILE, RunRecord(folder.name, seed, "tiny", True)) as log:
        for number in range(rounds):
            duels = [_duel(rng, number, i, response) for i in range(LABELS * 3 // 2)]
            _label(log, number, duels[:LABELS])
            append_duels(folder, number, duels)
            evaluated = [_evaluated(rng, i, number / rounds, response) for i in range(7)]
            append_responses(folder, number + 1, LABELS * (number + 1), evaluated)
            row = _result(rng, number, rounds) | {"evaluation": summarise(evaluated)}
            row["evaluation"]["seconds"] = 2.0
            with (folder / "result.json").open("a") as file:
                file.write(json.dumps(row | {"config": {"seed": seed} | config}) + "\n")
    return folder


def _candidate(text: str) -> Candidate:
    return Candidate(text, tuple(range(len(text.split()))), (-0.5,) * len(text.split()), "stop")


def _duel(rng: np.random.Generator, number: int, position: int, response: str) -> Duel:
    truth = rng.normal()
    rewards = np.stack([truth / 2 + rng.normal(size=5) / 2, -truth / 2 + rng.normal(size=5) / 2])
    return Duel(
        round=number,
        position=position,
        prompt_id=f"train-{number}-{position}",
        prompt_text=f"Summarise post {position} of round {number}.",
        prompt_token_ids=(1, 2),
        first=_candidate(f"{response} First of {number}."),
        second=_candidate(f"{response} Second of {number}."),
        from_reference=(False, False),
        member=0,
        synthetic=position >= LABELS,
        audited=False,
        label=Label(float(truth + rng.normal() / 2 > 0), 1.0),
        win_probability=0.7 if position < LABELS else float("nan"),
        scores=(truth / 2, -truth / 2) if position < LABELS else (float("nan"), float("nan")),
        features=np.zeros((2, 3), np.float32),
        member_rewards=rewards.astype(np.float32),
        policy_version=number,
    )


def _label(log: PreferenceLog, number: int, duels: list[Duel]) -> None:
    log.ask(
        number,
        [
            Question(
                number,
                duel.position,
                duel.prompt_id,
                duel.prompt_text,
                duel.prompt_token_ids,
                duel.first,
                duel.second,
                duel.from_reference,
                duel.member,
                duel.policy_version,
                "bai_ts",
                "length-1",
                "bradley_terry",
                0.0,
            )
            for duel in duels
        ],
    )
    entries = {entry.question.position: entry.id for entry in log.round(number)}
    verdicts = {
        entries[duel.position]: Verdict(
            "first" if duel.first_wins else "second", win_probability=0.7, scores=duel.scores
        )
        for duel in duels
    }
    log.give("length-1", verdicts)
    log.close_round(number)


def _evaluated(
    rng: np.random.Generator, place: int, progress: float, response: str
) -> EvaluatedPrompt:
    score = 4.0 + progress + rng.normal() / 2
    outcome = Outcome(
        response=f"{response} Now.",
        num_tokens=20 + place,
        finished=bool(rng.random() < 0.8),
        win_vs_initial=float(np.clip(0.5 + progress / 3 + rng.normal() / 5, 0, 1)),
        win_vs_reference=float(np.clip(progress / 2 + rng.normal() / 9, 0, 1)),
        score=score,
        num_questions=2,
    )
    return EvaluatedPrompt(
        prompt_id=f"test-{place}",
        prompt_text=f"Summarise held-out post {place}.",
        prompt_token_ids=(1,),
        reference=f"{response} Reference.",
        initial_response=f"{response} Initially.",
        initial_score=4.0,
        greedy=outcome,
        best_of_n=None,
        sampled_token_ids=(1, 2),
        kl=progress * 3 + rng.random(),
    )


def _result(rng: np.random.Generator, number: int, rounds: int) -> dict[str, Any]:
    return {
        "training_iteration": number + 1,
        "round": number + 1,
        "num_oracle_queries": LABELS * (number + 1),
        "num_synthetic_pairs": LABELS // 2 * (number + 1),
        "num_evaluation_questions": 14 * (number + 1),
        "policy_steps": number + 1,
        "done": number + 1 == rounds,
        "perf": {"ram_util_percent": 40.0 + number},
        "seconds": {"round": 10.0, "propose": 4.0, "erm": 0.5, "policy": 3.0, "label": 0.1},
        "policy": {"loss": 0.69 - number / 100},
        "reward_model": {
            "accuracy_on_new_labels": float(rng.integers(2, 5) / 4),
            "calibration_error": 0.2 / (number + 1),
            "member_disagreement": 0.1 / (number + 2) + 0.01,
            "argmax_agreement": 0.6 + 0.01 * number,
        },
    }
