"""A resumed run's results have every round once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from rllib_sea.cli.resume import cut_results


def write_results(folder: Path, iterations: list[int]) -> None:
    rows = [{"training_iteration": n, "text": f"a, {n}"} for n in iterations]
    (folder / "result.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with (folder / "progress.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "training_iteration"])
        writer.writeheader()
        writer.writerows(rows)


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_after_the_checkpoint_are_taken_off(tmp_path: Path) -> None:
    write_results(tmp_path, [1, 2, 3, 4])
    with (tmp_path / "result.json").open("a") as file:
        file.write('{"training_iteration": 5, "te')  # the process died here
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("a,")
    cut_results(tmp_path, 2)
    lines = (tmp_path / "result.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"training_iteration": n, "text": f"a, {n}"} for n in (1, 2)
    ]
    assert csv_rows(tmp_path / "progress_to_2.csv") == [
        {"training_iteration": str(n), "text": f"a, {n}"} for n in (1, 2)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress_to_2.csv", "result.json"]


def test_rows_set_aside_are_not_lost_where_nothing_came_after_them(tmp_path: Path) -> None:
    write_results(tmp_path, [1, 2])
    cut_results(tmp_path, 2)
    before = csv_rows(tmp_path / "progress_to_2.csv")
    assert len(before) == 2
    cut_results(tmp_path, 2)
    write_results(tmp_path, [3])
    cut_results(tmp_path, 2)
    assert csv_rows(tmp_path / "progress_to_2.csv") == before


def test_empty_and_missing_files(tmp_path: Path) -> None:
    cut_results(tmp_path, 3)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "result.json").touch()
    (tmp_path / "progress.csv").touch()
    cut_results(tmp_path, 3)
    assert (tmp_path / "result.json").read_text() == ""
