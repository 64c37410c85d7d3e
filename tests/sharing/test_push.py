"""A policy and preferences as folders for the hub, their cards, and the way there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea.checkpointing.manifest import Progress, seal
from rllib_sea.cli.rllib_sea import main
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.sharing.cards import public
from tests.helpers.tiny_models import make_tiny_policy
from tests.helpers.written_runs import LABELS, write_run
from tests.sharing.hub_server import Hub, served

ROUNDS = 4


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose checkpoints are of rounds 2 and 3, of 4."""
    folder = write_run(
        tmp_path / "results" / "mine" / "SEA_1",
        ROUNDS,
        policy_model="smollm2-135m-instruct",
        loss="ipo",
        env_config={
            "prompts": "trl-lib/tldr:small",
            "oracle_config": {"api_key": "not-for-you", "model": "/home/me/models/judge"},
        },
    )
    for number in (2, 3):
        checkpoint = folder / f"checkpoint_00000{number - 2}"
        make_tiny_policy(checkpoint / "policy", seed=number)
        (checkpoint / "policy" / "training_state.json").write_text('{"version": 1}')
        (checkpoint / "policy" / "optimizer.pt").write_bytes(b"large")
        shutil.copyfile(folder / LOG_FILE, checkpoint / LOG_FILE)
        seal(checkpoint, Progress(number, 10.0))
    return folder


@pytest.fixture
def rllib_sea(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command: status, output, errors."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rllib-sea", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with served() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        yield hub


def test_a_policy_is_a_folder_that_transformers_loads(
    rllib_sea: Any, run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert rllib_sea("push", "policy", run.parent, "me/mine", "--dry-run", output) == (
        0,
        f"the policy of {run}/checkpoint_000001: written to {output}, nothing was pushed\n",
        "",
    )
    source = run / "checkpoint_000001" / "policy"
    names = {path.name for path in output.iterdir()}
    assert names == {path.name for path in source.iterdir()} - {
        "optimizer.pt",
        "training_state.json",
    } | {"README.md"}
    weights = AutoModelForCausalLM.from_pretrained(output).state_dict()
    for name, tensor in AutoModelForCausalLM.from_pretrained(source).state_dict().items():
        assert torch.equal(weights[name], tensor)
    assert AutoTokenizer.from_pretrained(output)("a b")["input_ids"]


def test_a_policys_card_says_how_it_was_made_up_to_its_checkpoint(
    rllib_sea: Any, run: Path, tmp_path: Path
) -> None:
    folder = run / "checkpoint_000000"
    rllib_sea("push", "policy", folder, "me/mine", "--dry-run", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.to_dict() == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "datasets": "trl-lib/tldr",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rllib-sea", "preference-learning", "ipo"],
    }
    results = [json.loads(line) for line in (run / "result.json").read_text().splitlines()]
    then, end = results[1]["evaluation"], results[-1]["evaluation"]
    value, low, high = (then[f"win_rate_vs_initial{part}"] for part in ("", "_low", "_high"))
    for text in (
        'AutoModelForCausalLM.from_pretrained("me/mine")',
        f"| win rate vs initial | {value:.3f} [{low:.3f}, {high:.3f}] |",
        "Measured after round 2, on 7 prompts",
        "judged by\nlength-1; in brackets are 95% intervals",
        "| KL | ",
        "| labelled by | length-1 16 |",
        "| learned by | ipo, beta 0.1, ",
        "| rounds | 2",
        "- transformers 5.",
        "- rllib-sea ",
        "oracle_config:\n    api_key: (not shown)\n    model: judge\n",
    ):
        assert text in card.text, text
    assert f"{end['win_rate_vs_initial_low']:.3f}" not in card.text
    assert "not-for-you" not in card.text
    assert "/home/me" not in card.text


def test_a_local_base_model_has_no_name_on_the_hub_and_its_own_license(
    rllib_sea: Any, run: Path, tmp_path: Path
) -> None:
    base = tmp_path / "our-base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Ours\n")
    params = json.loads((run / "params.json").read_text()) | {"policy_model": str(base)}
    (run / "params.json").write_text(json.dumps(params))
    results = (run / "result.json").read_text().replace("smollm2-135m-instruct", str(base))
    (run / "result.json").write_text(results)
    assert rllib_sea("push", "policy", run, "me/mine", "--dry-run", tmp_path / "out")[0] == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.base_model, card.data.license) == (None, "mit")
    assert "| policy | our-base (LlamaForCausalLM) |" in card.text
    assert str(tmp_path) not in card.content


def test_preferences_are_a_data_set_that_datasets_loads(
    rllib_sea: Any, run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    status, out, _ = rllib_sea("push", "preferences", run, "me/labels", "--dry-run", output)
    assert (status, out) == (
        0,
        f"{ROUNDS * LABELS} preferences: written to {output}, nothing was pushed\n",
    )
    rows = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == ["prompt", "chosen", "rejected"]
    assert len(rows) == ROUNDS * LABELS
    assert rows[0]["prompt"] == [{"role": "user", "content": "Summarise post 0 of round 0."}]
    card = DatasetCard.load(output / "README.md")
    found = card.data.to_dict()
    assert found["size_categories"] == "n<1K"
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    for text in (
        "16 preferences between two responses",
        "| answered by | length-1 16 |",
        "| prompts | trl-lib/tldr:small |",
        "| pairs chosen by | bai_ts 16 |",
        "ties (0), skips (0), open questions (0), withdrawn questions (0).",
    ):
        assert text in card.text, text
    assert "not-for-you" not in card.text


def test_a_log_alone_can_be_pushed_with_all_columns(
    rllib_sea: Any, run: Path, tmp_path: Path
) -> None:
    shutil.copyfile(run / LOG_FILE, tmp_path / "alone.sqlite")
    output = tmp_path / "out"
    log = tmp_path / "alone.sqlite"
    assert rllib_sea("push", "preferences", log, "me/l", "--all", "--dry-run", output)[0] == 0
    rows = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[0]["raters"] == ["length-1"]
    card = DatasetCard.load(output / "README.md")
    assert "`preference`, `weight`, `label_rule`" in card.text
    assert "Settings of the run" not in card.text


def test_both_go_to_the_hub_with_its_own_client(rllib_sea: Any, run: Path, hub: Hub) -> None:
    status, out, err = rllib_sea("push", "policy", run, "me/mine", "--private")
    assert (status, err) == (0, "")
    assert out.endswith(f"pushed to {hub.url}/me/mine/commit/{'1' * 40}\n")
    assert rllib_sea("push", "preferences", run, "me/mine")[0] == 0
    assert hub.private == {"models/me/mine": True, "datasets/me/mine": False}
    source = run / "checkpoint_000001" / "policy" / "model.safetensors"
    files = hub.repos["models/me/mine"]
    assert files["model.safetensors"] == source.read_bytes()
    assert "README.md" in files
    assert "optimizer.pt" not in files
    assert sorted(hub.repos["datasets/me/mine"]) == ["README.md", "data/train.parquet"]
    assert hub.tokens == {"Bearer hf_mine"}
    # Again, over what is there.
    assert rllib_sea("push", "policy", run, "me/mine", "--private")[::2] == (0, "")
    # What everybody sees does not become private by itself.
    hub.private["models/me/mine"] = False
    assert rllib_sea("push", "policy", run, "me/mine", "--private") == (
        2,
        "",
        "rllib-sea: --private: me/mine exists already, and everybody can see it\n",
    )


def test_what_the_hub_refuses_is_one_line(rllib_sea: Any, run: Path, hub: Hub) -> None:
    hub.refuses = (403, "You don't have the rights to create a model under the namespace 'you'")
    status, _, err = rllib_sea("push", "policy", run, "you/mine")
    assert status == 2
    assert err.startswith(f"rllib-sea: cannot push to you/mine at {hub.url}: ")
    assert "You don't have the rights" in err
    assert err.count("\n") == 1


def test_what_is_wrong_is_said_before_anything_is_pushed(
    rllib_sea: Any, run: Path, tmp_path: Path
) -> None:
    def line(*arguments: object) -> str:
        status, out, err = rllib_sea("push", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        return err.removeprefix("rllib-sea: ").strip()

    dry = ("--dry-run", tmp_path / "out")
    assert line("policy", run, "mine", *dry) == ("REPO: 'mine' has no owner, expected owner/name")
    assert line("policy", run, "me/a/b", *dry).startswith("REPO: ")
    assert line("policy", run, "me/mine") == (
        "there is no token of the Hugging Face hub: run `hf auth login`, or set HF_TOKEN"
    )
    assert line("policy", tmp_path / "none", "me/mine", *dry) == (
        f"there is no folder {tmp_path}/none"
    )
    write_run(run.parent / "SEA_2", 1)
    assert line("policy", run.parent, "me/mine", *dry) == (
        f"{run.parent} has 2 runs: name one of SEA_1, SEA_2"
    )
    (run / "checkpoint_000000" / "policy" / "optimizer.pt").write_bytes(b"other")
    assert "is damaged" in line("policy", run / "checkpoint_000000", "me/mine", *dry)
    shutil.rmtree(run / "checkpoint_000001")
    assert line("policy", run, "me/mine", *dry).startswith(f"{run} has no whole checkpoint")
    (run / LOG_FILE).unlink()
    assert line("preferences", run, "me/mine", *dry) == (
        f"there is no preference log {run}/{LOG_FILE}"
    )
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    assert line("policy", run, "me/mine", *dry).startswith(
        f"--dry-run: {tmp_path}/out: File exists"
    )


def test_paths_of_a_machine_are_not_passed_on() -> None:
    written = {"prompts": "/home/me/posts.jsonl", "model": "~/m", "files": ["./a/b"], "text": "a/b"}
    assert public(written) == {
        "prompts": "posts.jsonl",
        "model": "m",
        "files": ["b"],
        "text": "a/b",
    }
