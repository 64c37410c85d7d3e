"""The labeller as a process of its own: killed, refused, and without torch if nobody needs it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.labelling.handle import LabellerHandle
from rllib_sea.labelling.labeller_settings import LabellerSettings
from rllib_sea.preference_log.reader import LOG_FILE, PreferenceReader
from rllib_sea.preference_log.records import PreferenceLogError, Question, RunRecord
from rllib_sea.settings.labelling import Labelling
from tests.helpers.preference_log_cases import question
from text_duel import load_prompts

RUN = RunRecord("run", 3, "tiny", False)
PROMPTS = load_prompts("tldr_mini")
BY_KEY = {(prompt.id, prompt.text): prompt for prompt in PROMPTS}
COUNT = 12


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def handles() -> Iterator[list[LabellerHandle]]:
    """Those that a test has started, which are ended."""
    started: list[LabellerHandle] = []
    yield started
    for handle in started:
        handle.close()


def settings(path: Path, oracle: str, **config: Any) -> LabellerSettings:
    return LabellerSettings(
        log=path / LOG_FILE,
        run=RUN,
        env_config={"oracle": oracle, "oracle_config": config},
        keys=Labelling(oracle_retries=2, oracle_retry_wait_s=0.01, oracle_timeout_s=60.0),
    )


def asked(round_index: int) -> list[Question]:
    return [
        question(round_index, i, prompt_id=PROMPTS[i].id, prompt_text=PROMPTS[i].text)
        for i in range(COUNT)
    ]


def test_an_oracle_that_takes_the_labeller_along_loses_no_answer(
    tmp_path: Path, handles: list[LabellerHandle]
) -> None:
    """Killed twice in the middle of a round: what was answered stands, the rest is asked."""
    (tmp_path / "die").write_text("5")
    warnings: list[str] = []
    labeller = LabellerHandle(
        settings(tmp_path, "tests.helpers.dying_oracle:DyingOracle", folder=str(tmp_path)),
        0,
        warnings.append,
    )
    handles.append(labeller)
    assert labeller.call("start").name == "dying"
    before = labeller.process_id()
    labeller.call("ask", 0, asked(0))
    labeller.call("label", 0, BY_KEY)
    assert labeller.process_id() != before
    assert any("the labeller's process died in `label`" in warning for warning in warnings)
    closed = labeller.call("close_round", 0)
    assert (closed.num_answered, closed.num_open, len(closed.lessons)) == (COUNT, 0, COUNT)
    times = Counter((tmp_path / "answered").read_text().split())
    assert len(times) == COUNT
    # At most the one whose answer had come and was not yet written.
    assert sum(times.values()) <= COUNT + 1


def test_an_oracle_that_always_takes_it_along_ends_with_one_line(
    tmp_path: Path, handles: list[LabellerHandle]
) -> None:
    labeller = LabellerHandle(
        settings(tmp_path, "tests.helpers.dying_oracle:DyingOracle", folder=str(tmp_path)),
        0,
        lambda text: (tmp_path / "die").write_text("0"),  # with every restart
    )
    handles.append(labeller)
    labeller.call("start")
    labeller.call("ask", 0, asked(0))
    (tmp_path / "die").write_text("0")
    with pytest.raises(OracleAwayError, match="the labeller's process died in `label`"):
        labeller.call("label", 0, BY_KEY)
    (tmp_path / "die").unlink(missing_ok=True)
    with PreferenceReader(tmp_path / LOG_FILE) as log:
        assert log.num_open() == COUNT


def test_a_labeller_that_is_killed_from_outside_goes_on(
    tmp_path: Path, handles: list[LabellerHandle]
) -> None:
    labeller = LabellerHandle(
        settings(tmp_path, "tests.helpers.away_oracle:AwayOracle", folder=str(tmp_path)),
        0,
        lambda text: None,
    )
    handles.append(labeller)
    labeller.call("start")
    (tmp_path / "silent").write_text("30")
    process = labeller.process_id()

    def kill() -> None:
        while (tmp_path / "silent").exists():
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    labeller.call("ask", 0, asked(0))
    labeller.call("label", 0, BY_KEY)
    killer.join()
    assert labeller.call("close_round", 0).num_answered == COUNT
    assert len((tmp_path / "answered").read_text().splitlines()) == COUNT


def test_a_log_has_one_labeller(tmp_path: Path, handles: list[LabellerHandle]) -> None:
    one, two = (
        LabellerHandle(settings(tmp_path, "length"), 0, lambda text: None) for _ in range(2)
    )
    handles += [one, two]
    one.call("start")
    with pytest.raises(PreferenceLogError, match=rf"process {one.process_id()} writes to it"):
        two.call("start")
    one.close()
    handles.remove(one)
    two.call("start")


def test_a_labeller_needs_no_torch_if_its_oracle_needs_none(
    tmp_path: Path, handles: list[LabellerHandle]
) -> None:
    labeller = LabellerHandle(settings(tmp_path, "length", target=3), 0, lambda text: None)
    handles.append(labeller)
    labeller.call("start")
    labeller.call("ask", 0, asked(0))
    labeller.call("label", 0, BY_KEY)
    maps = Path(f"/proc/{labeller.process_id()}/maps").read_text()
    assert "_sqlite3" in maps
    assert "libtorch" not in maps
