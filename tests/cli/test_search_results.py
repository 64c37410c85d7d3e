"""What a search reports: its trials, best first, as a table, a file and a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from ray.tune import CheckpointConfig
from ray.tune.schedulers import FIFOScheduler
from rich.console import Console

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.experiments import Experiment
from rllib_sea.cli.search_results import (
    cell_text,
    draw_heat_map,
    report_search,
    search_table,
    write_table,
)

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


# What Rich would take for markup, an emoji's name, and Matplotlib for a formula.
ODD = ["[[{title}]] [/b]{post}", "[red]$x", ":smile: $y_$"]


class FakeTrial:
    """What a report reads of a Tune trial."""

    status = "TERMINATED"
    last_result: dict[str, Any] = {"num_oracle_queries": 16, "training_iteration": 1}  # noqa: RUF012
    metric_analysis: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, template: str, size: int) -> None:
        self.evaluated_params = {"template": template, "[/size]": size}
        self.metric_analysis = {"evaluation/[/score]": {"last": 0.5}}


@pytest.fixture
def search(tmp_path: Path) -> tuple[Experiment, list[Any]]:
    """An experiment whose name, keys and values are full of brackets, and its trials."""
    config = {"template": {"grid_search": ODD}, "[/size]": {"grid_search": [1, 2]}}
    compared = {"metric": "evaluation/[/score]", "mode": "max"}
    spec = {"config": config, "scheduler_config": compared, "storage_path": str(tmp_path)}
    experiment = Experiment("[/exp]", spec, CheckpointConfig(), FIFOScheduler(), 1.0, 0.0)
    (tmp_path / "[").mkdir()
    (tmp_path / "[" / "exp]").mkdir()
    return experiment, [FakeTrial(template, size) for template in ODD for size in (1, 2)]


def test_brackets_in_names_and_values_are_text(search: tuple[Experiment, list[Any]]) -> None:
    experiment, trials = search
    console = TextConsole(file=io.StringIO(), width=200)
    report_search(console, experiment, trials)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for text in (*ODD, "[/exp]: 6 trials by evaluation/[/score]", "[/size]"):
        assert text in shown
    assert experiment.folder is not None
    with (experiment.folder / "search.csv").open(newline="") as file:
        assert {row["config/template"] for row in csv.DictReader(file)} == set(ODD)
    assert (experiment.folder / "search.png").is_file()


def test_what_cannot_be_printed_has_been_written(
    search: tuple[Experiment, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, trials = search
    console = TextConsole(file=io.StringIO())
    monkeypatch.setattr(console, "print", None)
    with pytest.raises(TypeError):
        report_search(console, experiment, trials)
    assert experiment.folder is not None
    assert (experiment.folder / "search.csv").is_file()
