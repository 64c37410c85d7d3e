"""The preference log: nothing is lost, asked twice, counted twice or half-written."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rllib_sea.preference_log import schema
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog, PreferenceReader
from rllib_sea.preference_log.reader import QUESTION_COLUMNS
from rllib_sea.preference_log.records import LogEntry, PreferenceLogError, RunRecord
from rllib_sea.preference_log.statistics import log_statistics
from tests.helpers import preference_log_cases
from tests.helpers.preference_log_cases import RUN, fill, give, question, verdict
from text_duel.conversations import turn
from text_duel.verdicts import Label

# A log of version 1 that a run of three rounds wrote with the last release that wrote such logs.
RELEASED = Path(__file__).with_name("version_1.sqlite")
# A log of version 3, as the program wrote it before questions had a purpose: `fill`, then a
# second rater who corrects, a round of conversations with a lease and a withdrawal.
BEFORE_PURPOSES = Path(__file__).with_name("version_3.sqlite")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / LOG_FILE


@pytest.fixture
def log(path: Path) -> Iterator[PreferenceLog]:
    with PreferenceLog(path, RUN) as opened:
        yield opened


def dump(path: Path) -> list[str]:
    """All of a log as SQL."""
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def keys(entries: list[LogEntry]) -> list[tuple[int, int]]:
    return [(entry.question.round, entry.question.position) for entry in entries]


# -- What is written is what is read --------------------------------------------------


def test_a_question_comes_back_to_the_bit(path: Path) -> None:
    asked = [
        question(4, 7, member=None, from_reference=(True, False)),
        question(4, 2, flip_noise=1 / 3),
    ]
    start = datetime.now(UTC)
    with PreferenceLog(path, RUN) as log:
        returned = log.ask(4, asked)
    with PreferenceReader(path) as reader:
        entries = reader.round(4)
        assert reader.runs() == [RUN]
    assert entries == returned
    assert [entry.question for entry in entries] == [asked[1], asked[0]]
    for entry in entries:
        assert (entry.run_id, entry.state, entry.label) == (RUN.run_id, "open", None)
        assert (entry.verdicts, entry.answered_at, entry.learned_in) == ((), None, None)
        assert start <= entry.asked_at <= datetime.now(UTC)


def test_a_verdict_comes_back_to_the_bit(log: PreferenceLog, path: Path) -> None:
    given = [
        verdict(win_probability=1 / 3, scores=(1 / 7, -1e-300)),
        verdict("tie", win_probability=None, scores=None, strength=0.5, seconds=7.25),
        verdict("skip", win_probability=None, scores=None, reason="not English"),
        verdict("both_bad", win_probability=None, scores=None, shown_first="second"),
    ]
    log.ask(0, [question(0, i) for i in range(4)])
    give(log, 0, dict(enumerate(given[:3])))
    give(log, 0, {3: given[3]}, "ann")
    with PreferenceReader(path) as reader:
        entries = list(reader.read())
    assert [[v.verdict for v in entry.verdicts] for entry in entries] == [[v] for v in given]
    assert [entry.verdicts[0].rater for entry in entries] == ["length-1"] * 3 + ["ann"]
    assert [entry.label for entry in entries] == [Label(1.0), Label(0.5), None, None]
    for entry in entries:
        assert (entry.state, entry.label_rule) == ("answered", "single")
        assert entry.answered_at is not None
        assert timedelta(0) <= entry.answered_at - entry.asked_at < timedelta(minutes=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"choice": "third"},
        {"win_probability": 1.5},
        {"win_probability": float("nan")},
        {"scores": (0.0, float("inf"))},
        {"strength": float("nan")},
    ],
)
def test_a_verdict_that_is_none_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"choice|outside|finite"):
        dataclasses.replace(verdict(), **changes)


# -- Counting -------------------------------------------------------------------------


def test_the_query_count_counts_answers_once(log: PreferenceLog) -> None:
    assert log.num_answered() == 0
    log.ask(0, [question(0, i) for i in range(3)])
    assert (log.num_questions(), log.num_answered(), log.num_open()) == (3, 0, 3)
    give(log, 0, {0: verdict(), 1: verdict("tie")})
    assert (log.num_answered(), log.num_open()) == (2, 1)
    # A skip was asked of somebody, too.
    give(log, 0, {2: verdict("skip")})
    # Nor is a question counted twice of which two have judged.
    give(log, 0, {0: verdict("second")}, "ann")
    assert (log.num_questions(), log.num_answered(), log.num_open()) == (3, 3, 0)


def test_a_log_is_compared_with_a_checkpoints_count(log: PreferenceLog) -> None:
    log.ask(0, [question(0, 0), question(0, 1)])
    give(log, 0, {0: verdict(), 1: verdict()})
    log.close_round(0)
    log.check_count(1, 2)
    log.check_count(0, 0)
    with pytest.raises(PreferenceLogError, match=r"2 answers in the first 1 rounds, .* counts 3"):
        log.check_count(1, 3)


def test_statistics(path: Path) -> None:
    fill(path)
    with PreferenceReader(path) as log:
        assert keys(log.entries(log.open_ids())) == [(1, 2)]
        found = log_statistics(log)
    assert (found.rounds, found.num_questions, found.num_answered) == ((0, 1), 7, 6)
    assert (found.num_open, found.num_withdrawn) == (1, 0)
    assert found.choices == {"first": 2, "second": 2, "tie": 1, "both_bad": 0, "skip": 1}
    assert found.strategies == {"bai_ts": 4, "passive": 3}
    assert found.oracles == {"length-1": 7}
    assert found.raters == {"length-1": 5, "ann": 1}
    assert found.waited is not None
    assert 0 <= found.waited[0] <= found.waited[1] <= found.waited[2] < 60


def test_statistics_of_a_log_without_questions(log: PreferenceLog, path: Path) -> None:
    with PreferenceReader(path) as reader:
        found = log_statistics(reader)
    assert (found.rounds, found.asked, found.waited, found.num_answered) == (None, None, None, 0)


# -- A round is asked once ------------------------------------------------------------


def test_a_round_that_was_asked_stands(path: Path) -> None:
    """A resumed run proposes again: other texts, another position, one position less."""
    asked = [question(0, 0), question(0, 1)]
    with PreferenceLog(path, RUN) as log:
        log.ask(0, asked)
        give(log, 0, {1: verdict("second")})
    with PreferenceLog(path, RUN) as log:
        others = [question(0, 1, prompt_text="another"), question(0, 2)]
        entries = log.ask(0, others)
        assert [entry.question for entry in entries] == asked
        assert [entry.label for entry in entries] == [None, Label(0.0)]
        assert log.ask(0, []) == entries
        assert log.num_questions() == 2
        assert keys(log.entries(log.open_ids())) == [(0, 0)]


def test_what_is_returned_when_a_round_is_asked_is_what_is_read(log: PreferenceLog) -> None:
    returned = log.ask(0, [question(0, 1), question(0, 0, flip_noise=1 / 3)])
    assert returned == log.round(0)


def test_a_round_without_questions_leaves_nothing(log: PreferenceLog) -> None:
    assert log.ask(0, []) == []
    assert [entry.question for entry in log.ask(0, [question(0, 3)])] == [question(0, 3)]


def test_questions_that_do_not_belong_together(log: PreferenceLog) -> None:
    with pytest.raises(ValueError, match="another round than 0"):
        log.ask(0, [question(0, 0), question(1, 1)])
    with pytest.raises(ValueError, match="one position"):
        log.ask(0, [question(0, 0), question(0, 0)])
    assert log.num_questions() == 0


def test_a_rater_answers_a_question_once(log: PreferenceLog) -> None:
    one, two = log.ask(0, [question(0, 0), question(0, 1)])
    log.give("ann", {one.id: verdict()})
    with pytest.raises(PreferenceLogError, match=r"position 0 was answered before by ann"):
        log.give("ann", {two.id: verdict(), one.id: verdict("second")})
    with pytest.raises(PreferenceLogError, match="question 99 was never asked"):
        log.give("ann", {two.id: verdict(), 99: verdict()})
    # Nothing of the two calls was written, and the log goes on.
    assert log.num_answered() == 1
    log.give("ann", {two.id: verdict("second")})
    assert [entry.label for entry in log.round(0)] == [Label(1.0), Label(0.0)]


# -- Several raters, corrections, leases, withdrawals ---------------------------------


def test_the_rule_single_goes_by_the_first_verdict(log: PreferenceLog) -> None:
    (entry,) = log.ask(0, [question(0, 0)])
    log.give("ann", {entry.id: verdict("second")})
    log.give("bob", {entry.id: verdict("first")})
    (entry,) = log.round(0)
    assert [(g.rater, g.verdict.choice) for g in entry.verdicts] == [
        ("ann", "second"),
        ("bob", "first"),
    ]
    assert entry.label == Label(0.0)


def test_a_correction_is_a_record_of_its_own(log: PreferenceLog) -> None:
    one, two = log.ask(0, [question(0, 0), question(0, 1)])
    log.give("ann", {one.id: verdict("second"), two.id: verdict("first")})
    log.correct(one.id, "ann", verdict("skip"))
    log.correct(one.id, "ann", verdict("first", seconds=2.0))
    (entry, _) = log.round(0)
    assert [given.verdict for given in entry.verdicts] == [verdict("first", seconds=2.0)]
    assert entry.label == Label(1.0)
    written = list(
        log.query("SELECT choice FROM verdicts WHERE question_id = ? ORDER BY id", one.id)
    )
    assert written == [("second",), ("skip",), ("first",)]
    with pytest.raises(PreferenceLogError, match="has no verdict of bob"):
        log.correct(one.id, "bob", verdict())
    log.close_round(0)
    with pytest.raises(PreferenceLogError, match="learned from in round 0: its verdict stays"):
        log.correct(one.id, "ann", verdict("second"))
    assert log.num_answered() == 2


def test_a_lease_ends_by_itself(log: PreferenceLog) -> None:
    one, two = log.ask(0, [question(0, 0), question(0, 1)])
    log.lease([one.id], "ann", 60.0)
    log.lease([two.id], "ann", 0.0)
    assert [entry.state for entry in log.round(0)] == ["leased", "open"]
    assert log.num_open() == 2
    log.lease([one.id], "bob", 0.0)
    assert [entry.state for entry in log.round(0)] == ["open", "open"]


def test_a_withdrawn_question_costs_nothing_and_loses_nothing(log: PreferenceLog) -> None:
    one, two = log.ask(0, [question(0, 0), question(0, 1)])
    log.give("ann", {two.id: verdict()})
    with pytest.raises(PreferenceLogError, match="position 1 is answered, not open"):
        log.withdraw([one.id, two.id], "late")
    log.withdraw([one.id], "late")
    assert (log.num_answered(), log.num_open(), log.num_withdrawn()) == (1, 0, 1)
    with pytest.raises(PreferenceLogError, match="position 0 is withdrawn, not open"):
        log.withdraw([one.id], "late")
    # Somebody had it before them, and answers all the same.
    log.give("ann", {one.id: verdict("second")})
    (entry, _) = log.round(0)
    assert (entry.state, entry.label) == ("withdrawn", None)
    assert entry.verdicts[0].verdict == verdict("second")
    assert (log.num_answered(), log.num_withdrawn()) == (1, 1)
    assert [lesson.id for lesson in log.close_round(0).lessons] == [two.id]


# -- What a round learns from is settled once -----------------------------------------


def test_a_late_label_is_learned_from_in_the_next_round(log: PreferenceLog) -> None:
    log.ask(0, [question(0, i) for i in range(3)])
    give(log, 0, {1: verdict(), 2: verdict("skip")})
    closed = log.close_round(0)
    assert [(x.round, x.position, x.label) for x in closed.lessons] == [(0, 1, Label(1.0))]
    assert (closed.num_answered, closed.num_open) == (2, 1)
    log.ask(1, [question(1, 0), question(1, 1)])
    give(log, 0, {0: verdict("tie")})
    give(log, 1, {1: verdict("second", win_probability=1 / 3, scores=(1.0, 2.0))})
    # A round that is done again learns from what it learned from.
    assert log.close_round(0) == closed
    closed = log.close_round(1)
    assert [(x.round, x.position, x.label) for x in closed.lessons] == [
        (0, 0, Label(0.5)),
        (1, 1, Label(0.0)),
    ]
    assert (closed.lessons[1].win_probability, closed.lessons[1].scores) == (1 / 3, (1.0, 2.0))
    assert (closed.num_answered, closed.num_open) == (4, 1)
    assert log.counts_at(1) == (2, 1)
    assert log.counts_at(0) == (0, 0)
    by_id = {entry.id: entry.question.place for entry in log.read()}
    assert [by_id[key] for key in log.learned(1)] == [(0, 1)]
    assert [by_id[key] for key in log.learned(2)] == [(0, 1), (1, 1)]
    assert [by_id[key] for key in log.learned(2, ties=True)] == [(0, 1), (0, 0), (1, 1)]


def test_a_round_does_not_learn_from_a_later_one(log: PreferenceLog) -> None:
    """As where a run was killed after a round was asked, and begins anew before that round."""
    log.ask(0, [question(0, 0)])
    log.ask(1, [question(1, 0)])
    give(log, 0, {0: verdict()})
    give(log, 1, {0: verdict()})
    assert [lesson.round for lesson in log.close_round(0).lessons] == [0]
    assert [lesson.round for lesson in log.close_round(1).lessons] == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE verdicts SET choice = 'second'",
        "UPDATE labels SET preference = 0",
        "UPDATE lessons SET round = 7",
        "UPDATE questions SET first_text = 'x'",
        "UPDATE runs SET seed = 1",
        "DELETE FROM verdicts",
        "DELETE FROM labels",
        "DELETE FROM closed_rounds",
        "DELETE FROM questions",
        "DELETE FROM runs",
        "INSERT OR REPLACE INTO verdicts SELECT * FROM verdicts",
        "INSERT OR REPLACE INTO labels SELECT * FROM labels",
        "INSERT OR REPLACE INTO lessons SELECT * FROM lessons",
        "INSERT OR REPLACE INTO questions SELECT * FROM questions",
        "INSERT OR REPLACE INTO runs SELECT * FROM runs",
        # Another row number, the same question.
        f"INSERT OR REPLACE INTO questions (id, {QUESTION_COLUMNS}) "
        f"SELECT 99, {QUESTION_COLUMNS} FROM questions",
    ],
)
def test_rows_are_never_changed_by_anybody(path: Path, statement: str) -> None:
    fill(path)
    before = dump(path)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), connection:
        connection.execute(statement)
    connection.close()
    assert dump(path) == before


# -- One writer, many readers ---------------------------------------------------------


def test_what_is_written_is_on_the_disk_when_the_call_returns(log: PreferenceLog) -> None:
    settings = [next(log.query(f"PRAGMA {name}"))[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2 is FULL


def test_readers_see_what_is_committed_while_it_is_written(log: PreferenceLog, path: Path) -> None:
    log.ask(0, [question(0, 0), question(0, 1)])
    with PreferenceReader(path) as one, PreferenceReader(path) as two:
        reading = one.read()
        next(reading)
        give(log, 0, {0: verdict(), 1: verdict()})
        # A reader that began before sees the state of then.
        assert next(reading).label is None
        assert two.num_answered() == 2
        with pytest.raises(PreferenceLogError, match="not to be written to"):
            list(two.query("INSERT INTO runs VALUES (2, 'b', 0, '', 0, '')"))


def test_who_only_reads_leaves_nothing_beside_the_log(path: Path) -> None:
    fill(path)
    before = path.read_bytes()
    names = {path.name, f"{path.name}.lock"}
    for _ in range(2):
        with PreferenceReader(path) as one, PreferenceReader(path) as other:
            assert one.num_questions() == other.num_questions() > 0
            with pytest.raises(PreferenceLogError, match="not to be written to"):
                list(one.query("INSERT INTO lessons VALUES (1, 7)"))
        assert {file.name for file in path.parent.iterdir()} == names
        assert path.read_bytes() == before
    with PreferenceLog(path, RUN) as log:
        log.ask(2, [])
        with PreferenceReader(path) as reader:
            assert reader.num_questions() == log.num_questions()
        # Its writer's files stay, and it goes on.
        assert (path.parent / f"{path.name}-wal").exists()
        give(log, 1, {2: verdict()})


def test_a_second_writer_is_refused_and_the_first_goes_on(log: PreferenceLog, path: Path) -> None:
    with pytest.raises(PreferenceLogError, match=rf"process {os.getpid()} writes to it"):
        PreferenceLog(path, RUN)
    log.ask(0, [question(0, 0)])
    log.close()
    with PreferenceLog(path, RUN) as again:
        assert again.num_questions() == 1


def test_another_runs_log_is_refused_and_left_alone(path: Path) -> None:
    fill(path)
    before = dump(path)
    for changes, name in (({"run_id": "run-b"}, "run_id"), ({"seed": 4}, "seed")):
        with pytest.raises(PreferenceLogError, match=f"its {name} is .* belongs to one run"):
            PreferenceLog(path, dataclasses.replace(RUN, **changes))
    assert dump(path) == before
    PreferenceLog(path, RUN).close()


# -- Killed, full, locked, damaged ----------------------------------------------------


@pytest.fixture
def writers() -> Iterator[subprocess.Popen[str]]:
    """A process that starts a writer for each path it reads; see its module."""
    with subprocess.Popen(
        [sys.executable, preference_log_cases.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_kill_9_loses_nothing_that_was_committed(
    path: Path, writers: subprocess.Popen[str]
) -> None:
    """Each writer goes on with the log that the one before left, as a resumed run does."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    rng = random.Random(0)
    asked: set[int] = set()
    answered: set[tuple[int, int]] = set()
    num_kills = 20
    for kill in range(1, num_kills + 1):
        writers.stdin.write(f"{path}\n")
        pid = int(writers.stdout.readline())
        lines = [writers.stdout.readline() for _ in range(rng.randrange(20))]
        time.sleep(rng.uniform(0.0, 0.005))
        os.kill(pid, signal.SIGKILL)
        for line in iter(writers.stdout.readline, f"ended {signal.SIGKILL:d}\n"):
            assert line, "the writers' parent has ended"
            assert not line.startswith("ended"), line
            lines.append(line)
        for line in lines:
            kind, *numbers = line.split()
            if kind == "asked":
                asked.add(int(numbers[0]))
            else:
                assert kind == "answered", line
                answered.add((int(numbers[0]), int(numbers[1])))
        if not path.exists():
            continue  # killed before it began
        with PreferenceLog(path, RUN) as log:  # the lock has died with its process
            assert next(log.query("PRAGMA integrity_check")) == ("ok",)
            entries = list(log.read())
        in_log = {entry.question.round for entry in entries}
        assert asked <= in_log
        # A round is there whole or not at all.
        assert keys(entries) == [(r, p) for r in sorted(in_log) for p in range(3)]
        with_answer = {key for key, e in zip(keys(entries), entries, strict=True) if e.label}
        assert answered <= with_answer
        # Besides, at most what each writer had committed and not yet printed.
        assert len(with_answer - answered) <= kill
    assert len(asked) > num_kills


def test_a_full_disk_is_one_line_and_the_log_stays_as_it_was(path: Path) -> None:
    fill(path)
    before = dump(path)
    with PreferenceLog(path, RUN) as log:
        (pages,) = next(log.query("PRAGMA page_count"))
        list(log.query(f"PRAGMA max_page_count = {pages}"))
        many = [question(2, i, prompt_text="long " * 2000) for i in range(20)]
        with pytest.raises(PreferenceLogError) as error:
            log.ask(2, many)
        assert str(error.value) == f"preference log {path}: the disk is full: nothing was written"
        assert dump(path) == before
        # The same call again, once there is room.
        list(log.query(f"PRAGMA max_page_count = {100 * pages}"))
        assert len(log.ask(2, many)) == 20
        give(log, 2, {i: verdict() for i in range(20)})
        assert log.num_answered() == 6 + 20


def test_a_write_that_fails_half_way_leaves_the_log_as_it_was(path: Path) -> None:
    """The operating system itself refuses to let files grow."""
    fill(path)
    before = dump(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with PreferenceLog(path, RUN) as log:
        many = [question(2, i, prompt_text="long " * 20_000) for i in range(20)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            with pytest.raises(PreferenceLogError, match="nothing was written"):
                log.ask(2, many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert dump(path) == before
        assert len(log.ask(2, many)) == 20
        assert next(log.query("PRAGMA integrity_check")) == ("ok",)


def test_a_locked_log_is_one_line(
    log: PreferenceLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    list(log.query("PRAGMA busy_timeout = 50"))
    with pytest.raises(PreferenceLogError, match="another program has locked it"):
        log.ask(0, [question(0, 0)])
    other.execute("ROLLBACK")
    other.close()
    assert len(log.ask(0, [question(0, 0)])) == 1


def test_a_file_that_is_no_log(path: Path, tmp_path: Path) -> None:
    path.write_text("prompt,chosen,rejected\n" * 100)
    for opened in (lambda: PreferenceReader(path), lambda: PreferenceLog(path, RUN)):
        with pytest.raises(PreferenceLogError, match="no SQLite file"):
            opened()
    assert path.read_text().startswith("prompt,")

    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = other.read_bytes()
    for opened in (lambda: PreferenceReader(other), lambda: PreferenceLog(other, RUN)):
        with pytest.raises(PreferenceLogError, match="another program"):
            opened()
    assert other.read_bytes() == before


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PreferenceLogError, match="there is no preference log"):
        PreferenceReader(tmp_path / LOG_FILE)
    (tmp_path / LOG_FILE).touch()
    with pytest.raises(PreferenceLogError, match="is empty"):
        PreferenceReader(tmp_path / LOG_FILE)
    with pytest.raises(PreferenceLogError, match=rf"did you mean .*{LOG_FILE}"):
        PreferenceReader(tmp_path)
    with pytest.raises(PreferenceLogError, match="cannot write"):
        PreferenceLog(tmp_path / "missing" / LOG_FILE, RUN)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_log_that_was_cut_short(path: Path, kept: float) -> None:
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    for opened in (lambda: PreferenceReader(path), lambda: PreferenceLog(path, RUN)):
        with pytest.raises(PreferenceLogError, match=r"damaged") as error:
            opened()
        assert "\n" not in str(error.value)


# -- Schema versions ------------------------------------------------------------------

# Version 1 as it was released: never to be changed.
VERSION_1 = """
PRAGMA application_id = 1685415276;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, seed INTEGER NOT NULL,
    policy_model TEXT NOT NULL, chat INTEGER NOT NULL, opened_at TEXT NOT NULL
);
CREATE TABLE questions (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (run_id),
    round INTEGER NOT NULL, position INTEGER NOT NULL, prompt_id TEXT NOT NULL,
    prompt_text TEXT NOT NULL, prompt_token_ids TEXT NOT NULL, first_text TEXT NOT NULL,
    first_token_ids TEXT NOT NULL, first_logprobs TEXT NOT NULL,
    first_finish_reason TEXT NOT NULL, first_from_reference INTEGER NOT NULL,
    second_text TEXT NOT NULL, second_token_ids TEXT NOT NULL, second_logprobs TEXT NOT NULL,
    second_finish_reason TEXT NOT NULL, second_from_reference INTEGER NOT NULL, member INTEGER,
    policy_version INTEGER NOT NULL, strategy TEXT NOT NULL, oracle TEXT NOT NULL,
    labels TEXT NOT NULL, flip_noise REAL NOT NULL, shown_first TEXT NOT NULL,
    asked_at TEXT NOT NULL, UNIQUE (round, position)
);
CREATE TABLE answers (
    question_id INTEGER PRIMARY KEY REFERENCES questions (id), label TEXT NOT NULL,
    win_probability REAL, first_score REAL, second_score REAL, strength REAL,
    answered_at TEXT NOT NULL, answered_by TEXT NOT NULL
);
INSERT INTO runs VALUES (1, 'run-a', 3, 'tiny', 1, '2026-11-24T22:00:00.000000+00:00');
INSERT INTO questions VALUES (
    1, 'run-a', 0, 5, 'post-5', 'prompt', '[1, 2]', 'a', '[7]', '[-0.5]', 'stop', 0,
    'b', '[8]', '[-0.25]', 'length', 1, NULL, 0, 'passive', 'length-1', 'deterministic', 0.0,
    'first', '2026-11-24T22:00:01.000000+00:00'
);
INSERT INTO questions SELECT
    2, run_id, 1, 0, prompt_id, prompt_text, prompt_token_ids, first_text, first_token_ids,
    first_logprobs, first_finish_reason, first_from_reference, second_text, second_token_ids,
    second_logprobs, second_finish_reason, second_from_reference, member, policy_version,
    strategy, oracle, labels, flip_noise, shown_first, asked_at FROM questions;
INSERT INTO answers VALUES
    (1, 'second', 0.25, NULL, NULL, NULL, '2026-11-24T22:00:02.500000+00:00', 'length-1');
PRAGMA user_version = 1;
"""


@pytest.fixture
def version_1(path: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    connection.close()
    return path


@pytest.fixture
def version_5(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer program: its version 5 has one column more and fills it."""
    added = (
        "ALTER TABLE verdicts ADD COLUMN note TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX verdicts_by ON verdicts (rater)",
    )
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:4], added))


def check_version_1(reader: PreferenceReader) -> None:
    entry, waiting = reader.read()
    assert (entry.question.position, entry.question.second.logprobs) == (5, (-0.25,))
    (given,) = entry.verdicts
    assert (given.rater, given.verdict) == (
        "length-1",
        verdict("second", win_probability=0.25, scores=None),
    )
    assert (entry.label, entry.state, entry.learned_in) == (Label(0.0), "answered", 0)
    assert entry.answered_at is not None
    assert (entry.answered_at - entry.asked_at).total_seconds() == 1.5
    assert (waiting.label, waiting.state) == (None, "open")
    assert (reader.num_answered(), reader.num_open()) == (1, 1)
    # Its first round is done; its second one waits for an answer.
    assert (reader.is_closed(0), reader.is_closed(1)) == (True, False)
    reader.check_count(1, 1)


def test_a_log_of_version_1_is_read_and_written_on(version_1: Path) -> None:
    before = version_1.read_bytes()
    with PreferenceReader(version_1) as reader:
        check_version_1(reader)
    assert version_1.read_bytes() == before
    with PreferenceLog(version_1, RUN) as log:
        check_version_1(log)
        give(log, 1, {0: verdict()})
        assert log.num_answered() == 2
        closed = log.close_round(1)
        assert ([x.round for x in closed.lessons], closed.num_answered) == ([1], 2)
        assert next(log.query("PRAGMA integrity_check")) == ("ok",)
        assert list(log.query("PRAGMA foreign_key_check")) == []


def test_a_log_that_the_last_release_wrote(tmp_path: Path) -> None:
    """A file of version 1, as a run of three rounds left it: nothing of it changes."""
    path = tmp_path / LOG_FILE
    shutil.copy(RELEASED, path)
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT round, position, label, win_probability, first_score, second_score, answered_at, "
        "answered_by, first_text, first_logprobs FROM questions LEFT JOIN answers "
        "ON question_id = questions.id ORDER BY round, position"
    ).fetchall()
    (run_id, seed, model, chat) = connection.execute(
        "SELECT run_id, seed, policy_model, chat FROM runs"
    ).fetchone()
    connection.close()
    assert len(rows) == 21
    with PreferenceLog(path, RunRecord(run_id, seed, model, bool(chat))) as log:
        entries = list(log.read())
        for entry, row in zip(entries, rows, strict=True):
            (given,) = entry.verdicts
            scores = given.verdict.scores or (None, None)
            assert (
                *entry.question.place,
                given.verdict.choice,
                given.verdict.win_probability,
                *scores,
                given.given_at.isoformat(timespec="microseconds"),
                given.rater,
                entry.question.first.text,
                json.dumps(entry.question.first.logprobs),
            ) == row
            assert entry.learned_in == entry.question.round
        assert log.num_answered() == 21
        for num_rounds in (1, 2, 3):
            in_them = sum(row[0] < num_rounds for row in rows)
            log.check_count(num_rounds, in_them)
            assert len(log.learned(num_rounds)) == in_them
        assert next(log.query("PRAGMA user_version")) == (4,)


def test_a_log_of_version_2_has_texts_and_takes_conversations(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    for statement in schema.MIGRATIONS[1]:
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with PreferenceReader(path) as reader:
        assert [entry.question.prompt_messages for entry in reader.read()] == [None, None]
    assert path.read_bytes() == before
    talk = (*turn("system", "s \N{SNOWMAN}"), *turn("user", "u"))
    with PreferenceLog(path, RUN) as log:
        log.ask(2, [question(2, 0, prompt_messages=talk)])
    with PreferenceReader(path) as reader:
        *old, new = [entry.question for entry in reader.read()]
        assert [asked.prompt for asked in old] == ["prompt", "prompt"]
        assert new == question(2, 0, prompt_messages=talk)
        assert new.prompt == talk
        with PreferenceLog(path.with_name("heir.sqlite"), RUN) as heir:
            heir.inherit(path)
            assert [entry.question for entry in heir.read()] == [*old, new]


def test_a_log_of_version_3_asked_for_labels_only(path: Path) -> None:
    shutil.copy(BEFORE_PURPOSES, path)
    connection = sqlite3.connect(path)
    tables = ("runs", "verdicts", "labels", "leases", "withdrawals", "closed_rounds", "lessons")
    before = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    old = QUESTION_COLUMNS.removesuffix(", purpose, repeats")
    asked = connection.execute(f"SELECT id, {old} FROM questions").fetchall()
    connection.close()
    with PreferenceLog(path, RUN) as log:
        assert next(log.query("PRAGMA user_version")) == (4,)
        assert list(log.query(f"SELECT id, {old} FROM questions ORDER BY id")) == asked
        for table, rows in before.items():
            assert list(log.query(f"SELECT * FROM {table}")) == rows, table
        assert list(log.query("PRAGMA foreign_key_check")) == []
        # Rows point at the questions that were written anew.
        with pytest.raises(PreferenceLogError, match="never asked"):
            log.give("ann", {99: verdict()})
        assert (log.num_answered(), log.num_open(), log.num_withdrawn()) == (6, 3, 1)
        assert {entry.question.purpose for entry in log.read(None)} == {"label"}
        assert log.learned(2) == [1, 2, 5, 6]
        log.check_count(2, 6)
        give(log, 2, {0: verdict()})
        assert len(log.close_round(2).lessons) == 1


# -- Questions for other purposes than labels ------------------------------------------


def everything_counted(log: PreferenceLog) -> tuple[object, ...]:
    return (
        [log.num_answered(), log.num_open(), log.num_open(0), log.num_withdrawn()],
        [log.num_skipped(), log.num_questions(), log.num_questions(0), log.open_ids()],
        [log.open_prompts(), log.round(0), list(log.read())],
        dataclasses.replace(log_statistics(log), beside={}),
    )


def test_what_is_asked_for_another_purpose_counts_for_no_label(log: PreferenceLog) -> None:
    log.ask(0, [question(0, i) for i in range(3)])
    give(log, 0, {0: verdict()})
    before = everything_counted(log)
    for purpose, num_answered in (("gold", 0), ("evaluation", 2)):  # gold has no label
        others = [question(0, i, purpose=purpose, prompt_id=f"{purpose}-{i}") for i in range(4)]
        asked = log.ask(0, others, purpose)
        assert [entry.question for entry in asked] == others
        assert log.ask(0, others, purpose) == asked == log.round(0, purpose)
        answers = {asked[0].id: verdict(), asked[1].id: verdict("skip")}
        log.give("ann", answers)
        log.withdraw([asked[2].id], "enough")
        assert everything_counted(log) == before
        left = [0, 1, 3][num_answered:]
        assert log.open_ids(purpose=purpose) == [asked[i].id for i in left]
        assert [entry.id for entry in log.read(purpose)] == [entry.id for entry in asked]
        assert (log.num_answered(purpose), log.num_open(0, purpose)) == (num_answered, len(left))
        with pytest.raises(PreferenceLogError, match=f"{purpose} question of round 0, position 0"):
            log.give("ann", answers)
    assert len(list(log.read(None))) == 3 + 4 + 4
    assert log_statistics(log).beside == {"evaluation": 2, "gold": 2}
    closed = log.close_round(0)
    assert ([lesson.position for lesson in closed.lessons], closed.num_answered) == ([0], 1)
    assert closed.num_open == 2
    with pytest.raises(ValueError, match="not of gold"):
        log.ask(1, [question(1, 0)], "gold")


def test_a_log_with_other_purposes_is_inherited_whole(log: PreferenceLog, path: Path) -> None:
    log.ask(0, [question(0, 0, purpose="gold")], "gold")
    with PreferenceLog(path.with_name("heir.sqlite"), RUN) as heir:
        heir.inherit(path)
        assert list(heir.read(None)) == list(log.read(None))
        with pytest.raises(PreferenceLogError, match="has questions of its own"):
            heir.inherit(path)


@pytest.mark.usefixtures("version_5")
def test_an_old_log_is_migrated_by_its_writer_only(version_1: Path) -> None:
    before = version_1.read_bytes()
    with PreferenceReader(version_1) as reader:
        check_version_1(reader)
        assert list(reader.query("SELECT note FROM verdicts")) == [("",)]
    assert version_1.read_bytes() == before
    with PreferenceLog(version_1, RUN) as log:
        check_version_1(log)
        give(log, 1, {0: verdict()})
    with PreferenceReader(version_1) as reader:
        assert next(reader.query("PRAGMA user_version")) == (5,)
        assert list(reader.query("SELECT choice, note FROM verdicts")) == [
            ("second", ""),
            ("first", ""),
        ]


def test_a_migration_that_fails_changes_nothing(
    version_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(version_1)
    broken = ("ALTER TABLE answers ADD COLUMN note TEXT", "ALTER TABLE no_table ADD COLUMN x")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:1], broken))
        with pytest.raises(PreferenceLogError, match="no_table"):
            PreferenceLog(version_1, RUN)
    assert dump(version_1) == before
    with PreferenceReader(version_1) as reader:
        check_version_1(reader)


@pytest.mark.usefixtures("version_5")
def test_a_new_log_goes_through_all_versions(path: Path) -> None:
    fill(path)
    with PreferenceReader(path) as reader:
        assert next(reader.query("PRAGMA user_version")) == (5,)
        assert reader.num_answered() == 6


def test_a_newer_version_is_refused_and_left_alone(version_1: Path) -> None:
    connection = sqlite3.connect(version_1)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = version_1.read_bytes()
    for opened in (lambda: PreferenceReader(version_1), lambda: PreferenceLog(version_1, RUN)):
        with pytest.raises(PreferenceLogError, match=r"version 99, .*: use a newer rllib-sea"):
            opened()
    assert version_1.read_bytes() == before


# -- Copies ---------------------------------------------------------------------------


def test_a_copy_is_one_plain_file_and_starts_another_run(
    log: PreferenceLog, path: Path, tmp_path: Path
) -> None:
    log.ask(0, [question(0, 0), question(0, 1)])
    give(log, 0, {0: verdict(), 1: verdict("tie")})
    log.close_round(0)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    copy = folder / LOG_FILE
    log.copy_to(copy)
    log.ask(1, [question(1, 0)])
    log.copy_to(copy)
    assert [file.name for file in folder.iterdir()] == [LOG_FILE]

    new_run = dataclasses.replace(RUN, run_id="run-b")
    with PreferenceLog(tmp_path / "b.sqlite", new_run) as other:
        other.inherit(copy)
        assert other.runs() == [new_run, RUN]
        assert list(other.read()) == list(log.read())
        assert {entry.run_id for entry in other.read()} == {"run-a"}
        (entry,) = other.ask(1, [question(1, 5)])
        assert entry.question == question(1, 0)
        other.ask(2, [question(2, 0)])
        assert [entry.run_id for entry in other.round(2)] == ["run-b"]
        assert other.num_answered() == 2
        other.check_count(1, 2)
        with pytest.raises(PreferenceLogError, match="has questions of its own"):
            other.inherit(copy)
    # A third one, started from the second.
    with PreferenceLog(tmp_path / "c.sqlite", dataclasses.replace(RUN, run_id="run-c")) as third:
        third.inherit(tmp_path / "b.sqlite")
        assert [run.run_id for run in third.runs()] == ["run-c", "run-b", "run-a"]
        assert third.num_questions() == 4
    assert [file.name for file in folder.iterdir()] == [LOG_FILE]


def test_a_runs_own_copy_replaces_its_lost_log(
    log: PreferenceLog, path: Path, tmp_path: Path
) -> None:
    log.ask(0, [question(0, 0)])
    give(log, 0, {0: verdict()})
    log.copy_to(tmp_path / "copy.sqlite")
    with PreferenceLog(tmp_path / "again.sqlite", RUN) as again:
        again.inherit(tmp_path / "copy.sqlite")
        assert list(again.read()) == list(log.read())


def test_a_copy_that_cannot_be_written_leaves_nothing(log: PreferenceLog, tmp_path: Path) -> None:
    with pytest.raises(PreferenceLogError, match="cannot be opened"):
        log.copy_to(tmp_path / "missing" / "copy.sqlite")
    with PreferenceLog(tmp_path / "b.sqlite", dataclasses.replace(RUN, run_id="b")) as other:
        with pytest.raises(PreferenceLogError, match="no preference log"):
            other.inherit(tmp_path / "missing.sqlite")
        assert other.runs() == [dataclasses.replace(RUN, run_id="b")]
