"""Which architectures work: a tiny random model of each, in each sampler.

python -m benchmarks.architectures                     # all of them; 5 minutes on 2 cores
python -m benchmarks.architectures gpt2 mamba --samplers transformers

Each is checked as before a run, trained for three steps, and its weights are given to the engine,
which is audited: after trial weights, the initial ones, the trained ones, and back. The table has
the largest gap between engine and trainer in nats per token, or why there is none.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from rllib_sea.policy.audit import probe_tokens, tolerance
from rllib_sea.policy.model_folder import check_policy_folder
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from tests.helpers.model_families import CONFIGS, make_family
from tests.helpers.preference_pairs import random_pairs
from tests.helpers.published_weights import write_published
from text_duel.model_files import UNLIMITED

ROOT = Path(__file__).resolve().parent.parent
OPTIONS: dict[str, dict[str, Any]] = {
    "vllm": {"kv_cache_gib": 0.25, "max_num_seqs": 16, "num_threads": 1, "dtype": "float32"},
    "transformers": {"num_threads": 1, "dtype": "float32"},
}
PROBES = probe_tokens([tuple(range(1, 250))], context_length=256)


def prepare(name: str, folder: Path) -> dict[str, str]:
    """Makes a model, trains it and writes what is published; what it is, for its row."""
    model = make_family(name, folder / "model")
    check_policy_folder(model)
    config = PolicyTrainConfig(
        policy_lr=3e-3,
        lr_schedule="constant",
        train_precision="fp32",
        model_path=str(model),
        probes=PROBES,
    )
    learner = PolicyLearner(config)
    for which in ("initial", "rehearsal"):
        write_published(learner.weights(which), folder / f"{which}.pickle")
    for seed in range(3):
        assert math.isfinite(learner.update(random_pairs(4, seed=seed))["loss"])
    write_published(learner.weights(), folder / "trained.pickle")
    context = PromptTokenizer(model).context_length
    return {
        "class": json.loads((model / "config.json").read_text())["architectures"][0],
        "context": "unlimited" if context == UNLIMITED else str(context),
        "layout": learner.layout,
    }


def verdicts(sampler: str, folders: list[Path]) -> dict[str, str]:
    """What an engine makes of each folder: of all in one process, and of what fails alone again."""
    found = of_one_process(sampler, folders)
    for folder in folders:
        if found.get(folder.name, "no").startswith("no"):
            found |= {folder.name: "no"} | of_one_process(sampler, [folder])
    return found


def of_one_process(sampler: str, folders: list[Path]) -> dict[str, str]:
    """Verdicts by name; without those that the process did not come to."""
    call = json.dumps([sampler, OPTIONS[sampler], list(map(str, folders))])
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "envs")))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/policy/engine_gaps.py"), call],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("GAPS ")]
    return {name: verdict(result) for name, result in map(json.loads, lines)}


def verdict(result: dict[str, float] | str) -> str:
    if isinstance(result, str):
        lines = result.strip().splitlines()
        told = [one for one in lines if ("rror" in one or "failed," in one) and "://" not in one]
        return "no: " + (told or lines)[-1].strip()[:120]
    synced = [gap for name, gap in result.items() if name[0].isdigit() or name == "start"]
    right = "" if max(synced) <= tolerance(torch.float32) else "no: "
    return f"{right}{max(synced):.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=list(CONFIGS))
    parser.add_argument("--samplers", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root) / name for name in arguments.families]
        rows = {}
        for folder in folders:
            folder.mkdir()
            rows[folder.name] = prepare(folder.name, folder)
        for sampler in arguments.samplers:
            for name, said in verdicts(sampler, folders).items():
                rows[name][f"`{sampler}`"] = said
    print(f"transformers {transformers.__version__}, torch {torch.__version__}\n")
    heads = ["model", *next(iter(rows.values()))]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, row in rows.items():
        print("| " + " | ".join([name, *row.values()]) + " |")


if __name__ == "__main__":
    main()
