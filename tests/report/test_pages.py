"""The page of runs that were written without a model: whole ones, parts of one, several."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_sea.cli.rllib_sea import main
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.preference_log.records import RunRecord
from rllib_sea.report.page import render, write_report
from rllib_sea.report.runs import find_runs, read_runs, without_secrets
from tests.helpers.written_runs import LABELS, write_run
from tests.report.page_checks import Page, page_of
from text_duel.errors import ConfigError

EVIL = "<script>alert('1')</script><img src=x onerror=alert(2)>&amp;\x00\x1b[31m\u2028 {{ 7 * 7 }}"


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_a_whole_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mine" / "SEA_0", policy_lr=0.125)
    assert write_report([folder], tmp_path / "page.html") == 1
    page = page_of((tmp_path / "page.html").read_text())
    last = json.loads((folder / "result.json").read_text().splitlines()[-1])["evaluation"]
    for key in ("win_rate_vs_initial", "win_rate_vs_reference_soft", "mean_score", "kl"):
        assert f"{last[key]:.3f}" in page.text
        assert f"[{last[f'{key}_low']:.3f}, {last[f'{key}_high']:.3f}]" in page.text
    text = words(page)
    assert text.startswith("mine")
    assert "16 questions to length-1 in rounds 1 to 4: 16 answered, 0 open, 0 withdrawn" in text
    assert "The ensemble labelled 8 pairs itself" in text
    assert "40 s in 4 rounds; 56 questions to the oracle to measure" in text
    assert "At most 43% of the machine's memory" in text
    assert "sampling: 16 s (40%)" in text
    assert "evaluation: 8 s (20%)" in text
    assert "labelling: 0 s (1%) reward model: 2 s (5%)" in text
    assert "other: 2 s (4%)" in text
    assert "measuring" not in text
    assert "1 (H200)" in text
    # What differs from the defaults, beside the default, comes first.
    assert re.search(r"Different from the defaults.*policy_lr 5e-07 0\.125.*As by default", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "page.html"]


def test_before_and_after_shows_the_first_five_by_id(tmp_path: Path) -> None:
    page = render([write_run(tmp_path / "run", rounds=2)])
    assert re.findall(r"<h3>(test-\d)</h3>", page) == [f"test-{i}" for i in range(5)]
    assert "the first 5 held-out prompts by the alphabetical order" in page.lower()
    for text in ("A dog. Initially.", "A dog. Now.", "A dog. Reference.", "after 8 queries"):
        assert text in page


def test_the_hardest_duels_are_by_what_the_ensemble_thought_before(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=2)
    rows = [json.loads(line) for line in (folder / "duels.jsonl").read_text().splitlines()]
    real = [row for row in rows if not row["synthetic"]]
    assert len(real) == 2 * LABELS
    for row in rows:
        row["member_rewards"] = [[2.0, 2.0], [0.0, 0.0]]  # 0.881, the first
        row["preference"] = 1.0
    real[3]["member_rewards"] = [[0.0, 1.0], [0.0, 1.0]]
    real[5]["preference"] = 0.0
    (folder / "duels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = words(page_of(render([folder])))
    unsure, wrong = text.split("Nearest to one half")[1].split("Most wrong")
    assert unsure.lstrip().startswith(
        "train-0-3, round 1: the ensemble gave the first response 0.500"
    )
    assert wrong.count("the ensemble gave") == 1
    assert "train-1-1, round 2: the ensemble gave the first response 0.881" in wrong
    assert "A dog. First of 1." in wrong


def test_texts_of_models_are_never_html(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", response=EVIL, exploration_strategy=EVIL)
    (folder / "error.txt").write_text(EVIL)
    result = (folder / "result.json").read_text().replace('"done": true', '"done": false')
    (folder / "result.json").write_text(result)
    page = render([folder])
    parsed = page_of(page)
    assert "<script>alert('1')</script><img src=x onerror=alert(2)>&amp;" in parsed.text
    assert "{{ 7 * 7 }}" in parsed.text
    assert "\x1b" not in page
    assert "\x00" not in page
    assert "http" not in page.replace("http-equiv", "")


def _unstarted(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "starts.jsonl":
            path.unlink()


def _without_evaluation(folder: Path) -> None:
    (folder / "responses.jsonl").unlink()
    rows = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    for row in rows:
        del row["evaluation"]
    (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _killed(folder: Path) -> None:
    for name in ("result.json", "responses.jsonl", "duels.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[: -len(text.splitlines()[-1]) // 2])


def _damaged_log(folder: Path) -> None:
    (folder / LOG_FILE).write_bytes(b"no log" * 1000)


def _failed(folder: Path) -> None:
    (folder / "error.txt").write_text("Traceback\n  File\nValueError: no room\n\n")
    rows = (folder / "result.json").read_text().splitlines()
    (folder / "result.json").write_text("".join(f"{row}\n" for row in rows[:2]))


def _of_an_earlier_version(folder: Path) -> None:
    for name in ("starts.jsonl", "responses.jsonl", "duels.jsonl"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (_unstarted, ["stopped before its end", "No round has ended yet", "is no preference log"]),
        (_without_evaluation, ["No evaluation has been made yet", "16 questions to length-1"]),
        (_killed, ["stopped before its end", "Line 4 of result.json could not be read"]),
        (_killed, ["Line 28 of responses.jsonl could not be read", "after 16 queries"]),
        (_damaged_log, ["it is no preference log (no SQLite file)", "which cannot be read"]),
        (_failed, ["failed", "ValueError: no room", "8"]),
        (
            _of_an_earlier_version,
            ["finished", "There is no duels.jsonl", "no duel with the oracle's label"],
        ),
    ],
)
def test_of_a_part_of_a_run_there_is_what_there_is(
    happens: Callable[[Path], None], expected: list[str], tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run")
    happens(folder)
    text = words(page_of(render([folder])))
    for sentence in expected:
        assert sentence in text


def test_every_round_counts_once_and_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    lines = (folder / "result.json").read_bytes().splitlines(keepends=True)
    again = lines[2].replace(b'"ram_util_percent": 42.0', b'"ram_util_percent": 99.0')
    (folder / "result.json").write_bytes(b"".join([*lines[:3], b"{\xff\n", again, lines[3]]))
    (run,) = read_runs([folder])
    assert [row["round"] for row in run.rounds] == [1, 2, 3, 4]
    assert run.rounds[2]["perf"]["ram_util_percent"] == 99.0
    assert run.remarks == ["Line 4 of result.json could not be read."]


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=2)
    result = (folder / "result.json").read_text().replace('"done": true', '"done": false')
    (folder / "result.json").write_text(result)
    with PreferenceLog(folder / LOG_FILE, RunRecord("run", 0, "tiny", True)):
        assert "still running" in words(page_of(render([folder])))
    assert "stopped before its end" in words(page_of(render([folder])))


def test_warnings_and_notes_stand_with_their_rounds(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=2)
    rows = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    rows[0]["notes"], rows[1]["warnings"] = "the ERM starts from 3 labels", "it <collapsed>\nagain"
    (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = words(page_of(render([folder])))
    assert "Warnings and notes (3) Note, round 1: the ERM starts from 3 labels" in text
    assert "Warning, round 2: it <collapsed> Warning, round 2: again" in text


def test_a_search_is_its_trials_side_by_side(tmp_path: Path) -> None:
    search = tmp_path / "search"
    for gamma in (0.5, 1.0):
        write_run(search / f"SEA_{gamma}", seed=3, gamma=gamma)
    (search / "not a trial").mkdir()
    (search / "experiment_state.json").touch()
    page = render(find_runs([search]))
    text = words(page_of(page))
    assert "2 runs side by side gamma=0.5 : finished" in text
    assert page.count("Now.") == 10, "five prompts, two runs"
    # A legend for each section, a curve for each run.
    assert text.count("gamma=0.5 gamma=1.0 Win rate against the initial policy") == 1
    assert "gamma=0.5: oracle gamma=0.5: ensemble gamma=1.0: oracle" in text
    assert re.search(r"Different between the runs \(1\) .* gamma null 0\.5 1\.0 ", text)


def test_runs_have_names_that_tell_them_apart(tmp_path: Path) -> None:
    def names(*folders: Path) -> list[str]:
        return [run.name for run in read_runs(folders)]

    a, b = (write_run(tmp_path / name / "SEA_0", 1) for name in ("a", "b"))
    assert names(a, b) == ["a", "b"]
    other = write_run(tmp_path / "a" / "SEA_1", 1, seed=4)
    assert names(a, other) == ["seed=0", "seed=4"]
    same = write_run(tmp_path / "a" / "SEA_2", 1)
    assert names(a, same) == ["SEA_0", "SEA_2"]
    x, y = (
        write_run(
            tmp_path / "c" / name,
            1,
            env_config={"prompts": "p", "oracle_config": {"target": i, "api_key": str(i)}},
        )
        for i, name in enumerate("xy")
    )
    assert names(x, y) == ["env_config/oracle_config/target=0", "env_config/oracle_config/target=1"]


def test_secrets_are_not_passed_on() -> None:
    value = {"api_key": "abc", "max_tokens": 3, "judges": [{"password": "x", "model": "m"}]}
    assert without_secrets(value) == {
        "api_key": "(not shown)",
        "max_tokens": 3,
        "judges": [{"password": "(not shown)", "model": "m"}],
    }


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["rllib-sea", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), *capsys.readouterr()


def test_the_command_says_where_the_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = (write_run(tmp_path / name, 1) for name in ("one", "two"))
    assert run_command(monkeypatch, capsys, one) == (0, f"1 run: {one}/report.html\n", "")
    assert run_command(monkeypatch, capsys, one, two) == (0, "2 runs: report.html\n", "")
    status, out, _ = run_command(monkeypatch, capsys, tmp_path, "-o", "other.html")
    assert (status, out) == (0, "2 runs: other.html\n")
    assert Path("other.html").read_text().count("<h1>") == 1


def test_what_is_no_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", 1)
    (run / "checkpoint_000000").mkdir()
    for name in ("manifest.json", LOG_FILE):
        (run / "checkpoint_000000" / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "ppo").mkdir()
    (tmp_path / "ppo" / "params.json").write_text("{}")
    (tmp_path / "ppo" / "result.json").write_text('{"training_iteration": 1}\n')
    for folder, expected in (
        (tmp_path / "missing", "there is no folder"),
        (tmp_path / "empty", "is no run, and no folder of runs: expected one of starts.jsonl"),
        (run / "checkpoint_000000", f"(did you mean {run}?)"),
        (tmp_path / "ppo", "is a run of another algorithm"),
    ):
        status, out, err = run_command(monkeypatch, capsys, folder)
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert expected in err
        assert str(folder) in err


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1)
    with pytest.raises(ConfigError, match=r"no/page\.html: No such file or directory"):
        write_report([run], tmp_path / "no" / "page.html")
