"""The `rllib` command as a user types it, on real parts with a tiny random model."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

from tests.helpers.sea_runs import IN_PROCESS
from tests.report.page_checks import page_of

RLLIB = Path(sys.executable).with_name("rllib")
QUERIES = 12


def rllib(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.run(
        [str(RLLIB), *map(str, arguments)],
        cwd=folder,
        env=environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.fixture(scope="module")
def trained(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The results folder of one trial, and what the command printed."""
    folder = tmp_path_factory.mktemp("command")
    recipe = {
        "tiny": {
            "env": "text_duel/TLDR-v0",
            "run": "SEA",
            "config": {
                "env_config": {"prompts": "tldr_mini", "oracle": "length"},
                "policy_model": str(tiny_policy),
                "max_new_tokens": 8,
                "prompts_per_round": 8,
                "num_candidates": 3,
                "query_budget": QUERIES,
                "ensemble_size": 3,
                "num_threads": 1,
                "evaluation_num_prompts": 4,
                "evaluation_interval": 1,
                **IN_PROCESS,
            },
        }
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    done = rllib(
        "train", "file", "tiny.yaml", "--storage-path", folder, "--ray-num-cpus", 2, folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (trial,) = (folder / "tiny").glob("SEA_*")
    return trial, done.stdout


def test_each_round_is_a_line_and_the_end_a_summary(trained: tuple[Path, str]) -> None:
    trial, printed = trained
    assert "tiny: round 1, 8/12 queries" in printed
    assert "tiny: finished after 12 queries, 2 rounds" in printed
    files = (str(trial / name) for name in ("report.html", "sample_duels.md"))
    for text in ("win rate vs initial", "held-out prompts", *files):
        assert text in printed
    assert "nan" not in printed


def test_results_are_files_that_others_read(trained: tuple[Path, str]) -> None:
    trial, _ = trained
    results = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    assert [r["num_oracle_queries"] for r in results] == [8, QUERIES]
    with (trial / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["num_oracle_queries"] == str(QUERIES)
    assert float(rows[-1]["evaluation/win_rate_vs_initial"]) >= 0
    assert list(trial.glob("events.out.tfevents.*"))


def test_the_report_is_of_the_finished_run(trained: tuple[Path, str]) -> None:
    trial, _ = trained
    text = " ".join(page_of((trial / "report.html").read_text()).text.split())
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])["evaluation"]
    assert text.count("tiny finished ") == 1
    assert "There is no " not in text
    assert f"win rate vs initial {last['win_rate_vs_initial']:.3f} [" in text


def test_the_policy_loads_and_the_checkpoint_is_evaluated(trained: tuple[Path, str]) -> None:
    trial, _ = trained
    (checkpoint,) = trial.glob("checkpoint_*")
    AutoModelForCausalLM.from_pretrained(checkpoint / "policy")
    done = rllib("evaluate", checkpoint, "--ray-num-cpus", 2, folder=trial)
    assert done.returncode == 0, done.stderr
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])["evaluation"]
    assert f"{last['win_rate_vs_initial']:.3f}" in done.stdout
    assert f"{last['mean_score']:.3f}" in done.stdout
