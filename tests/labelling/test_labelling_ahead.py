"""With `ask_ahead` answers may all be there before the last round learns from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from rllib_sea.preference_log.reader import LOG_FILE, PreferenceReader
from tests.helpers.sea_runs import run_to_the_end, tiny_config


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_a_run_ends_when_all_answers_are_learned_from(tiny_policy: Path) -> None:
    """The oracle answers at once: after two of three rounds there are as many as the budget has."""
    config = tiny_config(tiny_policy, ask_ahead=True, query_budget=16, gamma=1.0)
    algorithm = config.build_algo()
    try:
        results = run_to_the_end(algorithm)
        with PreferenceReader(algorithm.folder / LOG_FILE) as log:
            learned = [entry.learned_in for entry in log.read()]
    finally:
        algorithm.stop()
    assert [result["num_oracle_queries"] for result in results][-2:] == [16, 16]
    assert None not in learned
    assert len(learned) == 16
    assert results[-1]["evaluation"], "of the policy that has learned from all"
