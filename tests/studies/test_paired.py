"""Two runs against each other, prompt by prompt, by hand."""

import json
from pathlib import Path

import pytest

from studies.language_models.paired import difference, win_rates


def write(run: Path, rows: list[tuple[int, str, list[float]]]) -> Path:
    run.mkdir()
    lines = [
        {
            "num_oracle_queries": labels,
            "prompt_id": prompt,
            "samples": [{"win_vs_initial": win} for win in wins],
        }
        for labels, prompt, wins in rows
    ]
    (run / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_differences_are_of_the_same_prompts(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one",
        [(8, "a", [0.0]), (16, "b", [0.9, 0.7]), (16, "a", [0.6, 0.6]), (24, "c", [])],
    )
    other = write(tmp_path / "other", [(16, "a", [0.5]), (16, "b", [0.5])])
    assert win_rates(one)[16] == pytest.approx({"a": 0.6, "b": 0.8})
    # 0.1 and 0.3: mean 0.2, standard deviation sqrt(0.02), over sqrt(2) prompts.
    assert difference(win_rates(one), win_rates(other), 16) == pytest.approx((0.2, 1.96 * 0.1))
    assert 24 not in win_rates(one)
