"""`rllib-sea label`: whom it asks, and how."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rllib_sea.cli import label as command
from rllib_sea.labelling.web.page_of_log import PageOfLog
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog
from tests.helpers.preference_log_cases import RUN, question
from text_duel.errors import ConfigError
from text_duel.oracles.people import PeopleOracle


def asked_by(monkeypatch: pytest.MonkeyPatch, log: Path, **options: Any) -> PeopleOracle:
    """Whom the command would ask."""
    asked: list[PeopleOracle] = []

    async def serve(console: Any, log: PreferenceLog, people: PeopleOracle, names: Any) -> None:
        asked.append(people)

    monkeypatch.setattr(command, "_serve", serve)
    given = {"raters": None, "host": "127.0.0.1", "port": 0, "rubric": None, "oracle_config": None}
    command.label(log, **(given | options))
    return asked[0]


def test_people_are_asked_as_the_run_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A majority of the run is none of another rule while the run is away."""
    path = tmp_path / LOG_FILE
    run = PeopleOracle(raters=["ann", "bob"], labels_by="majority", raters_per_question=2)

    async def serve() -> None:
        with PreferenceLog(path, RUN) as log:
            log.ask(0, [question(0, 0)])
            page = PageOfLog(log, run)
            await page.open()
            await page.close()

    asyncio.run(serve())
    again = asked_by(monkeypatch, path)
    assert (again.raters, again.options) == (("ann", "bob"), run.options)
    more = asked_by(
        monkeypatch, path, raters=["carol"], oracle_config="{raters_per_question: 3, undo_s: 0}"
    )
    assert more.raters == ("ann", "bob", "carol")
    assert more.options == run.options | {"raters_per_question": 3, "undo_s": 0}
    for given, message in (
        ("{labels: x}", "oracle 'people' has no key 'labels'.*did you mean 'labels_by'"),
        ("{raters_per_question: 3}", "raters_per_question: 3 needs 3 raters, raters names 2"),
        ("3", "--oracle-config: '3' is no mapping"),
    ):
        with pytest.raises(ConfigError, match=message):
            asked_by(monkeypatch, path, oracle_config=given)


def test_without_a_run_one_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / LOG_FILE
    PreferenceLog(path, RUN).close()
    people = asked_by(monkeypatch, path, rubric="tldr")
    assert (people.raters, people.labels_by) == (("me",), "single")
    assert "Which summary" in people.rubric
