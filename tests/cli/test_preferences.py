"""`rllib-sea preferences`, as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_sea.cli.rllib_sea import main
from rllib_sea.labelling.web.desk import Desk
from rllib_sea.labelling.web.desk_records import Answer
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog, PreferenceReader
from tests.helpers.preference_log_cases import RUN, fill, question

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `rllib-sea preferences` in this process: its status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rllib-sea", "preferences", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    fill(tmp_path / LOG_FILE)
    return tmp_path / LOG_FILE


def test_stats(command: Run, log: Path) -> None:
    status, out, err = command("stats", log)
    assert (status, err) == (0, "")
    rows = {line[:16].strip(): line[17:] for line in out.splitlines()}
    assert rows["run"] == "run-a (seed 3, tiny, chat)"
    assert rows["questions"] == "7 in rounds 0 to 1"
    assert rows["answered"] == "6 (the query count)"
    assert (rows["open"], rows["withdrawn"], rows["late labels"]) == ("1", "0", "0")
    assert rows["verdicts"] == "first 2, second 2, tie 1, both_bad 0, skip 1"
    assert rows["strategies"] == "bai_ts 4, passive 3"
    assert rows["oracles"] == "length-1 7"
    assert rows["raters"] == "length-1 5, ann 1"
    assert rows["asked"].endswith(" UTC")
    assert rows["time to answer"].startswith("median 0.0")


def test_stats_while_it_is_written_and_empty(command: Run, tmp_path: Path) -> None:
    with PreferenceLog(tmp_path / LOG_FILE, RUN) as writer:
        status, out, _ = command("stats", tmp_path / LOG_FILE)
        assert (status, "questions        0\n" in out) == (0, True)
        assert "strategies       none" in out
        writer.ask(0, [question(0, 0)])
        assert "questions        1 in round 0\n" in command("stats", tmp_path / LOG_FILE)[1]


def test_head(command: Run, log: Path) -> None:
    status, out, _ = command("head", log, "-n", 2)
    assert status == 0
    assert out.splitlines() == [
        "round 0, position 0: first (p(first) 0.667)",
        "  bai_ts, member 0, policy version 0, asked length-1",
        "  prompt post-0: Summarise post 0 \N{SNOWMAN} of 0/0: TL;DR:",
        "  first: first of 0/0.",
        "  second: second of 0/0",
        "round 0, position 1: second (p(first) 0.667)",
        "  bai_ts, member 1, policy version 0, asked length-1",
        "  prompt post-1: Summarise post 1 \N{SNOWMAN} of 0/1: TL;DR:",
        "  first: first of 0/1.",
        "  second: second of 0/1",
    ]
    out = command("head", log, "-n", 100)[1]
    assert out.count("round ") == 7
    assert "round 1, position 2: open\n  passive, policy version 1" in out


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_export(command: Run, log: Path, tmp_path: Path, file_format: str) -> None:
    output = tmp_path / "out"
    status, out, err = command("export", log, "--format", file_format, "-o", output)
    assert (status, err) == (0, "")
    assert (
        out
        == f"4 preferences written to {output}; left out: ties 1, skips 1, open 1, withdrawn 0\n"
    )
    start = output.read_bytes()[:4]
    assert start == (b"PAR1" if file_format == "parquet" else b'{"pr')


def test_export_of_all_columns(command: Run, log: Path, tmp_path: Path) -> None:
    assert command("export", log, "-o", tmp_path / "out", "--all")[0] == 0
    rows: list[dict[str, Any]] = list(map(json.loads, (tmp_path / "out").open()))
    assert [row["prompt_id"] for row in rows] == ["post-0", "post-1", "post-0", "post-1"]


def test_import(command: Run, tmp_path: Path, tiny_policy: Path) -> None:
    file, log = tmp_path / "team.jsonl", tmp_path / "log.sqlite"
    rows = [{"prompt": "Q", "chosen": text, "rejected": "no"} for text in ("a", "b", "c" * 1024)]
    file.write_text("\n".join(map(json.dumps, rows)))
    status, out, err = command("import", file, log, "--model", tiny_policy)
    assert (status, err) == (0, "")
    left_out = f"left out, longer than 1024 tokens: 1 ({file}:3)"
    assert out.splitlines() == [
        f"{file}: 3 rows of prompt, chosen, rejected",
        f"2 preferences of 1 prompts written to {log}; {left_out}",
    ]
    stats = command("stats", log)[1]
    assert f"(seed 0, {tiny_policy}, chat)" in stats
    assert "2 in round 0" in stats
    assert "time to answer" not in stats
    assert command("head", log, "-n", 1)[1].splitlines()[:2] == [
        "round 0, position 0: first",
        "  imported, asked imported(team.jsonl)",
    ]
    status, out, err = command("import", file, log, "--model", tiny_policy)
    assert (status, out) == (2, "")
    assert err == f"rllib-sea: {log} exists: name a new file, or remove it\n"
    plain = tmp_path / "plain.sqlite"
    assert command("import", file, plain, "--model", tiny_policy, "--no-chat")[0] == 0
    assert "plain text)" in command("stats", plain)[1]


def test_import_of_columns_with_other_names(
    command: Run, tmp_path: Path, tiny_policy: Path
) -> None:
    """It says which form was taken, what is not read, and what of the texts was taken off."""
    file, log = tmp_path / "old.csv", tmp_path / "log.sqlite"
    file.write_text("q,left,right,winner,who\nQ,yes</s>,no,1,ann\nQ,yes,no,tie,bob\n")
    names = "{prompt: q, first: left, second: right, label: winner}"
    status, out, err = command("import", file, log, "--model", tiny_policy, "--columns", names)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{file}: 2 rows of prompt (q), first (left), second (right), label (winner); "
        "not read: who",
        "end tokens taken off the ends of 1 responses",
        f"2 preferences of 1 prompts written to {log}",
    ]
    assert "first 1, second 0, tie 1" in command("stats", log)[1]
    status, out, err = command("import", file, "x", "--model", tiny_policy, "--columns", "{qq: q}")
    assert (status, err) == (2, "rllib-sea: columns: unknown role 'qq'\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["import", "none.jsonl", "x", "--model", "no/model"], "cannot read none.jsonl"),
        (["import", "text.txt", "x", "--model", "no/model"], "is no file that ends in .jsonl"),
        (["import", "rows.jsonl", "x", "--model", "./none"], "model: './none' was not found"),
        (["stats", "none.sqlite"], "there is no preference log none.sqlite"),
        (["head", "."], "did you mean preferences.sqlite?"),
        (["stats", "text.txt"], "no SQLite file"),
        (["export", "text.txt", "-o", "out"], "no SQLite file"),
        (["export", LOG_FILE, "-o", LOG_FILE], "exists: name a new file"),
        (["export", LOG_FILE, "-o", "no/out"], "cannot write no/out: No such file"),
    ],
)
def test_a_bad_file_is_one_line(
    command: Run,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(log.parent)
    Path("text.txt").write_text("some text, " * 200)
    Path("rows.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    before = log.read_bytes()
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("rllib-sea: ")
    assert expected in err
    assert log.read_bytes() == before
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "a.jsonl", "x"],
        ["export", LOG_FILE, "-o", "x", "--format", "csv"],
        ["export", LOG_FILE],
        ["head", "a", "-n0"],
    ],
)
def test_a_bad_option_is_an_error(command: Run, arguments: list[str]) -> None:
    assert command(*arguments)[0] == 2


def test_agreement(command: Run, log: Path) -> None:
    status, out, err = command("agreement", log)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "alpha            undefined: no question has two judgments: set overlap "
        "(Krippendorff's, of 0 questions with two judgments)"
    )
    assert lines[lines.index("ann              second 1") + 1] == (
        " " * 17 + "reliability 0.800 [0.518, 0.972]"
    )
    assert lines[-2] == "bai_ts           tie 0.250, both_bad 0.000, skip 0.250 of 4 verdicts"


def test_pairs_without_a_label_are_questions_for_people(
    command: Run, tmp_path: Path, tiny_policy: Path
) -> None:
    rows = [{"prompt": f"p {i}", "first": f"a {i}", "second": f"b {i}"} for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    log = tmp_path / "pairs.sqlite"
    status, out, err = command("import", tmp_path / "pairs.jsonl", log, "--model", tiny_policy)
    assert (status, err) == (0, "")
    assert out == (
        f"{tmp_path}/pairs.jsonl: 3 rows of prompt, first, second\n"
        f"3 open questions of 3 prompts written to {log} (`rllib-sea label {log}` has people "
        "answer them)\n"
    )
    with PreferenceReader(log) as reader:
        run = reader.runs()[0]
        assert (reader.num_open(), reader.num_answered()) == (3, 0)
    with PreferenceLog(log, run) as opened:
        desk = Desk(opened, lease_s=60.0, has_run=False)
        for shown in desk.hand_out("ann", 3):
            better = "left" if shown.left.startswith("b") else "right"
            desk.answer("ann", Answer(shown.id, better))
    status, _, _ = command("export", log, "-o", tmp_path / "out.jsonl")
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert status == 0
    assert all("b" in str(row["chosen"]) and "a" in str(row["rejected"]) for row in exported)
    assert len(exported) == 3
