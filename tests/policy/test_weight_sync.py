"""Each architecture: what an engine samples is what was trained, to the bit that floats allow."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rllib_sea.policy.audit import probe_tokens, tolerance
from rllib_sea.policy.model_folder import check_policy_folder
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from tests.helpers.model_families import as_older_versions_wrote, make_family, reshard
from tests.helpers.preference_pairs import random_pairs
from tests.helpers.published_weights import write_published
from text_duel.prompts import load_prompts

PROBES = probe_tokens([tuple(range(1, 250))], context_length=256)
OPTIONS = {
    "vllm": {"kv_cache_gib": 0.25, "max_num_seqs": 16, "num_threads": 1},
    "transformers": {"num_threads": 1},
}
# Folders as they are met, beside those that this version of Transformers writes.
FOLDERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "llama, in shards": ("llama", reshard),
    "gpt2, older": ("gpt2", partial(as_older_versions_wrote, prefix="transformer.")),
    "gpt_neox, older": ("gpt_neox", partial(as_older_versions_wrote, prefix="gpt_neox.")),
}
# All architectures are in `test_architectures.py`; here are those that vLLM and Transformers name,
# fuse or decorate each in its own way.
FAMILIES = (
    "llama",
    "llama_tied",
    "qwen2",
    "qwen3_moe",
    "olmoe",
    "mistral",
    "gemma",
    "phi3",
    "gpt2",
    "gpt_neox",
    "granite",
)
CASES = (*FAMILIES, *FOLDERS)
HALVED = ("llama_tied", "olmoe")


def prepare(folder: Path, name: str, precision: str) -> None:
    """A model, three updates of it, and what is published before and after."""
    family, change = FOLDERS.get(name, (name, lambda model: None))
    model = make_family(family, folder / "model")
    change(model)
    check_policy_folder(model)
    config = PolicyTrainConfig(
        policy_lr=3e-3,
        lr_schedule="constant",
        train_precision=precision,
        model_path=str(model),
        probes=PROBES,
    )
    learner = publish(config, folder, num_updates=3)
    learner.save(folder / "saved")
    # What is published is that of a run that was resumed.
    resumed = PolicyLearner(learner.config)
    resumed.load(folder / "saved")
    trained, again = learner.weights(), resumed.weights()
    assert again.probe == trained.probe
    assert again.tensors.keys() == trained.tensors.keys()
    assert all(torch.equal(again.tensors[key], value) for key, value in trained.tensors.items())
    assert learner.weights("initial").probe == resumed.weights("initial").probe


def publish(config: PolicyTrainConfig, folder: Path, num_updates: int) -> PolicyLearner:
    """Writes what a learner publishes, for :mod:`engine_gaps`."""
    learner = PolicyLearner(config)
    for which in ("initial", "rehearsal"):
        write_published(learner.weights(which), folder / f"{which}.pickle")
    for seed in range(num_updates):
        assert math.isfinite(learner.update(random_pairs(4, seed=seed))["loss"])
    write_published(learner.weights(), folder / "trained.pickle")
    return learner


def engine_gaps(kind: str, dtype: str, folders: list[Path]) -> dict[str, Any]:
    """What :mod:`engine_gaps` finds, by folder."""
    options = OPTIONS[kind] | {"dtype": dtype}
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).parent / "engine_gaps.py",
            json.dumps([kind, options, list(map(str, folders))]),
        ],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("GAPS ")]
    found = dict(map(json.loads, lines))
    for folder in folders:
        found.setdefault(folder.name, f"no result: {done.stderr[-2000:]}")
    return found


@pytest.fixture(scope="module")
def float32_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("float32")
    for name in CASES:
        (root / name).mkdir()
        prepare(root / name, name, "fp32")
    return [root / name for name in CASES]


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def float32_gaps(request: pytest.FixtureRequest, float32_folders: list[Path]) -> dict[str, Any]:
    return engine_gaps(request.param, "float32", float32_folders)


def assert_exact(found: dict[str, float] | str, most: float) -> None:
    assert isinstance(found, dict), found
    # The figures could tell: an engine that keeps its weights is far from the others.
    assert min(found.pop("untouched"), found.pop("unrehearsed")) > tolerance(torch.bfloat16)
    assert found.pop("encoder beside it") == 0.0
    assert found.pop("functions compiled") == 0, "seconds in each process"
    assert len(found) == 5
    assert max(found.values()) < most, found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_engine_and_trainer_agree_in_float32(name: str, float32_gaps: dict[str, Any]) -> None:
    """After three updates, a trial, a return to the initial weights, and in a resumed run.

    Those of several models in one process, beside plain ones: vLLM changes Transformers' classes.
    """
    assert_exact(float32_gaps[name], 1e-3)


@pytest.mark.timeout(900)
def test_engine_and_trainer_agree_in_bf16(tmp_path: Path) -> None:
    for name in HALVED:
        (tmp_path / name).mkdir()
        prepare(tmp_path / name, name, "bf16")
    for found in engine_gaps("vllm", "bfloat16", [tmp_path / name for name in HALVED]).values():
        assert_exact(found, tolerance(torch.bfloat16))


@pytest.mark.timeout(900)
def test_engine_and_trainer_agree_on_the_bundled_model(bundled: Path, tmp_path: Path) -> None:
    """SmolLM2, tied as it is, after updates at the recipe's rate; the rehearsal is what tells."""
    (tmp_path / "model").symlink_to(bundled)
    tokenizer = PromptTokenizer(bundled)
    prompt = tokenizer.encode(load_prompts("tldr_mini", limit=1)[0].text)
    config = PolicyTrainConfig(
        policy_lr=2e-6,
        lr_schedule="constant",
        train_precision="fp32",
        model_path=str(bundled),
        probes=probe_tokens([prompt], tokenizer.context_length),
    )
    publish(config, tmp_path, num_updates=2)
    (found,) = engine_gaps("vllm", "float32", [tmp_path]).values()
    assert isinstance(found, dict), found
    assert found.pop("unrehearsed") > 1.0
    assert found.pop("untouched") > 0.0
    assert found.pop("encoder beside it") == 0.0
    assert found.pop("functions compiled") == 0
    assert max(found.values()) < 1e-3, found


def test_a_tied_head_is_published_once(tmp_path: Path) -> None:
    make_family("llama_tied", tmp_path)
    config = PolicyTrainConfig(train_precision="fp32", model_path=str(tmp_path), probes=PROBES)
    published = PolicyLearner(config).weights()
    assert "lm_head.weight" not in published.tensors
