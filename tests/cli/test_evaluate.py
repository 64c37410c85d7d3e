from __future__ import annotations

import io

from rich.console import Console

from rllib_sea.cli.evaluate import evaluation_table


def test_the_table_has_a_row_a_metric_and_its_interval() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(
        evaluation_table(
            {
                "num_prompts": 64.0,
                "win_rate_vs_initial": 0.578125,
                "win_rate_vs_initial_low": 0.456,
                "win_rate_vs_initial_high": 0.692,
                "response_length": 31.5,
            }
        )
    )
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "64 held-out prompts" in text
    rows = [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]
    assert rows == [
        ["win_rate_vs_initial", "0.578", "0.456", "0.692"],
        ["response_length", "31.500"],
    ]
