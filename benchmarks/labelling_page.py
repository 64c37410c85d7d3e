"""How fast the service of the labelling page is, and what memory it takes.

    python -m benchmarks.labelling_page [--raters 20] [--questions 10000] [--answers 2000]

`rllib-sea label` serves a log of open questions of realistic size. Raters who need no time label
together: each has four questions ahead and asks for others when two are left, as the page does.
First at the pace of people (each an answer per second), then as fast as they are served.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from benchmarks.labelling_time import RUN, question
from benchmarks.memory import proportional_set_size
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog

AHEAD, LEFT = 4, 2
PACE_S = 1.0
PACED_ANSWERS = 400


class Labeller:
    """Labels as fast as it is served, or at a pace.

    Args:
        link: A secret link.
    """

    def __init__(self, link: str) -> None:
        base, _, token = link.partition("/#")
        headers = {"Authorization": f"Bearer {token}"}
        self.client = httpx.AsyncClient(base_url=base, headers=headers, timeout=60.0)
        self.seconds: dict[str, list[float]] = {"next": [], "answer": []}

    async def label(self, number: int, pace: float) -> None:
        ahead: list[int] = []
        for _ in range(number):
            if len(ahead) <= LEFT:
                shown = await self._post("next", {"count": AHEAD})
                ahead = [one["id"] for one in shown]
            body = {"question": ahead.pop(0), "choice": "left", "seconds": 1.0}
            kept = await self._post("answer", body)
            assert kept["status"] == "kept", kept
            await asyncio.sleep(pace * random.uniform(0.5, 1.5))

    async def _post(self, path: str, body: dict[str, object]):
        start = time.perf_counter()
        response = await self.client.post(f"/api/{path}", json=body)
        self.seconds[path].append(time.perf_counter() - start)
        response.raise_for_status()
        return response.json()


async def measure(links: list[str], num_answers: int, pace: float, service: psutil.Process) -> None:
    before = sum(service.cpu_times()[:2])
    labellers = [Labeller(link) for link in links]
    start = time.perf_counter()
    await asyncio.gather(*(one.label(num_answers // len(links), pace) for one in labellers))
    total = time.perf_counter() - start
    how = f"an answer every {pace:g} s each" if pace else "as fast as they are served"
    print(f"{how}: {num_answers / total:.0f} answers/s")
    used = sum(service.cpu_times()[:2]) - before
    print(f"  the service computes for {1000 * used / num_answers:.1f} ms per answer")
    for path in ("next", "answer"):
        seconds = sorted(s for one in labellers for s in one.seconds[path])
        at = [1000 * seconds[int(share * (len(seconds) - 1))] for share in (0.5, 0.95, 1.0)]
        print(f"  {path:<8} median {at[0]:6.1f} ms   p95 {at[1]:6.1f} ms   longest {at[2]:6.1f} ms")
    for one in labellers:
        await one.client.aclose()


def links_of(process: subprocess.Popen[str], number: int) -> list[str]:
    assert process.stdout is not None
    found = []
    for line in process.stdout:
        if " labels at " in line:
            found.append(line.strip().split(" labels at ")[1])
        if len(found) == number:
            return found
    raise RuntimeError("the command has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=20)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=2000)
    arguments = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LOG_FILE
        with PreferenceLog(path, RUN) as log:
            log.ask(0, [question(rng, 0, i) for i in range(arguments.questions)])
        names = [word for i in range(arguments.raters) for word in ("--rater", f"rater {i}")]
        command = [sys.executable, "-m", "rllib_sea.cli.rllib_sea", "label", str(path), *names]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                links = links_of(process, arguments.raters)
                print(f"{arguments.raters} raters, {arguments.questions} open questions")
                print(f"up after {time.perf_counter() - start:.1f} s")
                service = psutil.Process(process.pid)
                asyncio.run(measure(links, PACED_ANSWERS, PACE_S, service))
                asyncio.run(measure(links, arguments.answers, 0.0, service))
                memory = proportional_set_size(service) / 2**20
                print(f"the process takes {memory:.0f} MiB")
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
