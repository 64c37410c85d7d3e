"""Runs whose labels people give: their processes, their restarts, what is learned from."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import ray

from rllib_sea import SEAConfig
from rllib_sea.duels.run_files import RESPONSES_FILE
from rllib_sea.labelling.handle import LabellerHandle
from rllib_sea.labelling.labeller_settings import LabellerSettings
from rllib_sea.preference_log.reader import LOG_FILE, PreferenceReader
from rllib_sea.preference_log.records import LogEntry, RunRecord
from tests.helpers.http_rater import HttpRater
from tests.helpers.killed_runs import TrainCommand, write_recipe
from tests.helpers.preference_log_cases import question
from tests.helpers.sea_runs import IN_PROCESS
from tests.helpers.served_log import ServedLog
from text_duel import load_prompts
from text_duel.errors import ConfigError

PROMPTS = load_prompts("tldr_mini")
CODE = [Path(__file__).parents[2], Path(__file__).parents[2] / "envs"]
JUDGED = re.compile(r"(\d+) questions? waits? for people, who compare")


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_people_are_asked_for_labels_alone(tiny_policy: Path) -> None:
    config = {
        "policy_model": str(tiny_policy),
        "env_config": {"oracle": "people"},
        "query_budget": 9,
    }
    with pytest.raises(ConfigError, match="measure_online_win_rate: true has no effect with the"):
        SEAConfig.from_user_dict(config)
    scores = {"measure_online_win_rate": False, "measure_candidate_scores": True}
    with pytest.raises(ConfigError, match="measure_candidate_scores: the oracle people has no"):
        SEAConfig.from_user_dict(config | scores)


@pytest.mark.usefixtures("cluster")
def test_the_page_comes_back_with_the_labellers_process(tmp_path: Path) -> None:
    """Killed in the middle of a round: the same links, the same questions, all answers."""
    labeller = LabellerHandle(
        LabellerSettings(
            log=tmp_path / LOG_FILE,
            run=RunRecord("run", 3, "tiny", False),
            env_config={"oracle": "people", "oracle_config": {"raters": ["ann"], "undo_s": 0.0}},
            query_budget=9,
        ),
        0,
        lambda text: None,
    )
    try:
        assert labeller.call("start").asks_people
        links = labeller.call("open_page")
        assert list(links) == ["ann"]
        assert labeller.call("open_page") == links
        cases = [
            question(0, i, prompt_id=PROMPTS[i].id, prompt_text=PROMPTS[i].text) for i in range(6)
        ]
        labeller.call("ask", 0, cases)
        ann, process = HttpRater(links["ann"]), labeller.process_id()

        def answer() -> None:
            ann.label(3)
            os.kill(process, signal.SIGKILL)
            ann.label(3)

        answering = threading.Thread(target=answer)
        answering.start()
        labeller.call("label", 0, {(prompt.id, prompt.text): prompt for prompt in PROMPTS})
        answering.join()
        assert labeller.process_id() != process
        assert labeller.call("open_page") == links
        closed = labeller.call("close_round", 0)
        assert (closed.num_answered, closed.num_open) == (6, 0)
        assert (ann.progress()["budget"], ann.progress()["learned_mine"]) == (9, 6)
        assert ann.answered == [1, 2, 3, 4, 5, 6]
    finally:
        labeller.close()


def check_evaluation(
    run: Path, entries: Sequence[LogEntry], answered: Mapping[str, Sequence[int]]
) -> None:
    """Each pair was asked once and answered once; the result is what people said of them."""
    assert sorted(answered["ann"] + answered["bob"]) == [entry.id for entry in entries]
    rows = [json.loads(line) for line in (run / RESPONSES_FILE).read_text().splitlines()]
    by_prompt = {row["prompt"]: row for row in rows}
    assert len(rows) == len(by_prompt) == 4
    wins = {prompt: 0.5 for prompt in by_prompt}  # of equal texts
    for entry in entries:
        question, row = entry.question, by_prompt[entry.question.prompt_text]
        (given,) = entry.verdicts
        assert entry.id in answered[given.rater]
        assert (question.purpose, question.from_reference) == ("evaluation", (False, True))
        assert (question.first.text, question.second.text) == (
            row["response"],
            row["initial_response"],
        )
        assert question.first.text != question.second.text
        assert entry.learned_in is None
        first, second = len(question.first.text), len(question.second.text)
        wins[question.prompt_text] = 0.5 if first == second else float(first < second)
    assert {prompt: row["win_vs_initial"] for prompt, row in by_prompt.items()} == wins
    last = json.loads((run / "result.json").read_text().splitlines()[-1])
    assert last["evaluation"]["win_rate_vs_initial"] == sum(wins.values()) / 4
    assert last["evaluation"]["num_judged"] == 4.0
    assert last["num_evaluation_questions"] == len(entries)
    assert last["num_oracle_queries"] == 12


def test_a_run_that_people_label_is_killed_and_resumed(tiny_policy: Path, tmp_path: Path) -> None:
    """The real command: links, answers, kill -9, answers while it is away, the rest, the end.

    At the end people judge the policy; there it is killed again.
    """
    who = {"raters": ["ann", "bob"], "undo_s": 0.0}
    changes = {
        "query_budget": 12,
        "ask_ahead": True,
        "evaluation_questions": 4,
        "policy_lr": 1e-2,
    }
    write_recipe(tmp_path, tiny_policy, "people", who, **changes, **IN_PROCESS)
    with TrainCommand(tmp_path, import_path=CODE) as command:
        links = command.links("ann", "bob")
        ann, bob = HttpRater(links["ann"]), HttpRater(links["bob"])
        ann.label(2)
        bob.label(1)
        command.kill()
    (log,) = tmp_path.glob(f"tiny/*/{LOG_FILE}")
    away = ServedLog(log, "ann", "bob")
    assert away.links == links
    assert ann.progress()["phase"] == "asking"
    ann.label(1)
    away.stop()
    with TrainCommand(tmp_path, ["--resume"], CODE) as command:
        assert command.links("ann", "bob") == links
        ann.label(2)
        bob.label(6)
        assert command.wait_for("who compare", 120.0), command.output
        phases = [ann.progress()["phase"]]
        (num_judged,) = map(int, JUDGED.findall(command.output))
        assert 1 < num_judged <= 4
        ann.label(1)
        command.kill()
    labelled = {"ann": ann.answered[:-1], "bob": list(bob.answered)}
    with TrainCommand(tmp_path, ["--resume"], CODE) as command:
        assert command.wait_for("who compare", 180.0), command.output
        phases.append(ann.progress()["phase"])
        bob.label(num_judged - 1)
        assert command.wait(120.0) == 0, command.output
    assert phases == ["asking", "asking"]
    assert "12/12 queries" in command.output
    with PreferenceReader(log) as reader:
        entries, evaluation = list(reader.read()), list(reader.read("evaluation"))
    answered = {"ann": ann.answered[-1:], "bob": bob.answered[len(labelled["bob"]) :]}
    check_evaluation(log.parent, evaluation, answered)
    assert [len(entry.verdicts) for entry in entries] == [1] * 12
    assert [entry.learned_in for entry in entries] == [1] * 8 + [2] * 4
    rounds = [json.loads(line) for line in (log.parent / "result.json").read_text().splitlines()]
    assert [line["duels"]["staleness"] for line in rounds] == [0, 1, 1]
    assert all(line["seconds"]["people_idle"] >= 0.0 for line in rounds)
    assert sorted(labelled["ann"] + labelled["bob"]) == [entry.id for entry in entries]
    for entry in entries:
        assert entry.id in labelled[entry.verdicts[0].rater]
        first, second = len(entry.question.first.text), len(entry.question.second.text)
        assert entry.label is not None
        assert entry.label.preference == (0.5 if first == second else float(first < second))
    tokens = [link.partition("#")[2] for link in links.values()]
    for file in tmp_path.glob("tiny/**/*"):
        if file.is_file() and not file.name.endswith(".raters.json"):
            assert not any(token.encode() in file.read_bytes() for token in tokens), file
    assert (log.parent / "report.html").is_file()
