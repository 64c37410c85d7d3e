"""What the preference log costs per round: `python benchmarks/preference_log_time.py`.

Writes rounds of 128 questions of realistic size and their answers, and prints a table.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog, PreferenceReader
from rllib_sea.preference_log.records import Question, RunRecord
from text_duel.verdicts import Verdict

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


def main() -> None:
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    # Not /tmp, which may be memory: what costs is the disk.
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / LOG_FILE
        with PreferenceLog(path, RUN) as log:
            for r in range(ROUNDS):
                questions = [question(rng, r, i) for i in range(QUESTIONS)]
                asked = timed("ask", lambda r=r, q=questions: log.ask(r, q))
                verdicts = {entry.id: Verdict("first", 0.75, (1.0, 0.5)) for entry in asked}
                timed("answer", lambda v=verdicts: log.give("benchmark", v))
                timed("close", lambda r=r: log.close_round(r))
            timed("copy for a checkpoint", lambda: log.copy_to(Path(folder) / "copy.sqlite"))
        timed("open to write", lambda: PreferenceLog(path, RUN)).close()
        with PreferenceReader(path) as reader:
            timed("read all", lambda: list(reader.read()))
        size = path.stat().st_size / (ROUNDS * QUESTIONS)
    print(f"{ROUNDS} rounds of {QUESTIONS} questions, {size / 1000:.1f} kB a question")
    print(f"{'':<22} {'median ms':>9} {'max ms':>9}")
    for name, values in seconds.items():
        print(f"{name:<22} {1e3 * statistics.median(values):>9.1f} {1e3 * max(values):>9.1f}")


if __name__ == "__main__":
    main()
