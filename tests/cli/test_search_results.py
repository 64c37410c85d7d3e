"""What a search reports: its trials, best first, as a table, a file and a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from rich.console import Console

from rllib_sea.cli.search_results import cell_text, draw_heat_map, search_table, write_table

METRIC = "evaluation/score"


def row(gamma: float, size: int, score: float | None, queries: int, status: str) -> dict[str, Any]:
    return {
        "config/gamma": gamma,
        "config/ensemble_size": size,
        METRIC: score,
        "num_oracle_queries": queries,
        "rounds": queries // 16,
        "status": status,
    }


ROWS = [
    row(0.7, 10, 0.625, 256, "terminated"),
    row(1.0, 5, 0.5, 96, "terminated"),
    row(1.0, 10, None, 16, "error"),
]


def test_the_table_names_what_was_never_measured() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(search_table("search", METRIC, ROWS))
    lines = console.export_text().splitlines()
    assert "3 trials by evaluation/score" in lines[0]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert rows[0] == ["0.7", "10", "0.625", "256", "16", "terminated"]
    assert rows[2] == ["1.0", "10", "never measured", "16", "1", "error"]


def test_the_file_has_the_same_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "search.csv", ROWS)
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
    draw_heat_map(tmp_path / "map.png", "ensemble_size", "gamma", METRIC, ROWS)
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"


def test_a_cell_says_which_of_its_trials_were_stopped_early() -> None:
    assert cell_text([], METRIC, most=256) == "-"
    assert cell_text(ROWS[:1], METRIC, most=256) == "0.625"
    assert cell_text(ROWS[1:2], METRIC, most=256) == "0.500\n96 queries"
    assert cell_text(ROWS[:2], METRIC, most=256) == "0.562\n2 trials\n96 to 256 queries"
