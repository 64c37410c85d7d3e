"""What a search reports: its trials, best first, as a table, a file and a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from rich.console import Console

from rllib_sea.cli.search_results import (
    SearchResult,
    cell_text,
    draw_heat_map,
    search_table,
    write_table,
)

RESULTS = [
    SearchResult({"gamma": 0.7, "ensemble_size": 10}, 0.625, 256, 16, "terminated"),
    SearchResult({"gamma": 1.0, "ensemble_size": 5}, 0.5, 96, 6, "terminated"),
    SearchResult({"gamma": 1.0, "ensemble_size": 10}, None, 16, 1, "error"),
]


def test_the_table_names_what_was_never_measured() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(search_table("search", "evaluation/score", RESULTS))
    lines = console.export_text().splitlines()
    assert "3 trials by evaluation/score" in lines[0]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert rows[0] == ["0.7", "10", "0.625", "256", "16", "terminated"]
    assert rows[2] == ["1.0", "10", "never measured", "16", "1", "error"]


def test_the_file_has_the_same_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "search.csv", "evaluation/score", RESULTS)
    with (tmp_path / "search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["evaluation/score"] for row in rows] == ["0.625", "0.5", ""]
    assert rows[1] == {
        "config/gamma": "1.0",
        "config/ensemble_size": "5",
        "evaluation/score": "0.5",
        "num_oracle_queries": "96",
        "rounds": "6",
        "status": "terminated",
    }


def test_the_heat_map_is_drawn_with_empty_cells(tmp_path: Path) -> None:
    draw_heat_map(tmp_path / "map.png", "ensemble_size", "gamma", "evaluation/score", RESULTS)
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"


def test_a_cell_says_which_of_its_trials_were_stopped_early() -> None:
    assert cell_text([], most=256) == "-"
    assert cell_text(RESULTS[:1], most=256) == "0.625"
    assert cell_text(RESULTS[1:2], most=256) == "0.500\n96 queries"
    assert cell_text(RESULTS[:2], most=256) == "0.562\n2 trials\n96 to 256 queries"
