"""What labelling costs a round beside the oracle's own time: `python -m benchmarks.labelling_time`.

Has rounds of 128 questions of realistic size labelled by an oracle that takes no time, first by the
preference log alone, then by the labeller in a process of its own; prints a table and what memory
that process takes.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.memory import proportional_set_size
from rllib_sea.duels.records import Candidate
from rllib_sea.labelling.handle import LabellerHandle
from rllib_sea.labelling.labeller_settings import LabellerSettings
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog, PreferenceReader
from rllib_sea.preference_log.records import Question, RunRecord
from text_duel import load_prompts
from text_duel.verdicts import Verdict

ACTOR_ROUNDS = 10
ROUNDS, QUESTIONS, PROMPT_TOKENS, RESPONSE_TOKENS, VOCABULARY = 40, 128, 300, 53, 49152
RUN = RunRecord("benchmark", 0, "smollm2-135m-instruct", True)


def tokens(rng: random.Random, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(VOCABULARY) for _ in range(count))


def response(rng: random.Random) -> Candidate:
    logprobs = tuple(-5 * rng.random() for _ in range(RESPONSE_TOKENS))
    return Candidate("word " * 40, tokens(rng, RESPONSE_TOKENS), logprobs, "stop")


def question(rng: random.Random, round_index: int, position: int) -> Question:
    return Question(
        round=round_index,
        position=position,
        prompt_id=f"p{position}",
        prompt_text="p " * 700,
        prompt_token_ids=tokens(rng, PROMPT_TOKENS),
        first=response(rng),
        second=response(rng),
        from_reference=(False, False),
        member=0,
        policy_version=round_index,
        strategy="bai_ts",
        oracle="benchmark",
        labels="deterministic",
        flip_noise=0.0,
    )


Timed = Callable[[str, Callable[[], Any]], Any]


def time_log(folder: Path, timed: Timed) -> float:
    """Times the log's calls; returns the bytes that a question takes."""
    rng, path = random.Random(0), folder / LOG_FILE
    with PreferenceLog(path, RUN) as log:
        for r in range(ROUNDS):
            questions = [question(rng, r, i) for i in range(QUESTIONS)]
            asked = timed("log: ask", lambda r=r, q=questions: log.ask(r, q))
            verdicts = {entry.id: Verdict("first", 0.75, (1.0, 0.5)) for entry in asked}
            timed("log: verdicts", lambda v=verdicts: log.give("benchmark", v))
            timed("log: close the round", lambda r=r: log.close_round(r))
        timed("log: copy for a checkpoint", lambda: log.copy_to(folder / "copy.sqlite"))
    timed("log: open to write", lambda: PreferenceLog(path, RUN)).close()
    with PreferenceReader(path) as reader:
        timed("log: read all", lambda: list(reader.read()))
    return path.stat().st_size / (ROUNDS * QUESTIONS)


def time_labeller(folder: Path, timed: Timed) -> float:
    """Times a round's calls of the labeller; returns its proportional set size in bytes."""
    prompts = load_prompts("tldr_mini")
    by_key = {(prompt.id, prompt.text): prompt for prompt in prompts}
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    settings = LabellerSettings(
        log=folder / "labeller.sqlite",
        run=RUN,
        env_config={"oracle": "length"},
    )
    labeller = LabellerHandle(settings, 0, print)
    try:
        labeller.call("start")
        rng = random.Random(0)
        for r in range(ACTOR_ROUNDS):
            questions = [
                dataclasses.replace(
                    question(rng, r, i), prompt_id=prompts[i].id, prompt_text=prompts[i].text
                )
                for i in range(QUESTIONS)
            ]

            def one_round(r: int = r, questions: list[Question] = questions) -> None:
                labeller.call("ask", r, questions)
                labeller.call("label", r, by_key)
                labeller.call("close_round", r)

            timed("labeller: a round", one_round)
        return proportional_set_size(psutil.Process(labeller.process_id()))
    finally:
        labeller.close()
        ray.shutdown()


def main() -> None:
    seconds: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    # Not /tmp, which may be memory: what costs is the disk.
    with tempfile.TemporaryDirectory(dir=".") as folder:
        question_bytes = time_log(Path(folder).resolve(), timed)
        labeller_bytes = time_labeller(Path(folder).resolve(), timed)
    print(f"rounds of {QUESTIONS} questions, {question_bytes / 1000:.1f} kB per question")
    print(f"the labeller's process takes {labeller_bytes / 2**20:.0f} MiB")
    print(f"{'':<28} {'median ms':>9} {'max ms':>9}")
    for name, values in seconds.items():
        print(f"{name:<28} {1e3 * statistics.median(values):>9.1f} {1e3 * max(values):>9.1f}")


if __name__ == "__main__":
    main()
