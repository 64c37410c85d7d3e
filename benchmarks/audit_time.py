"""What the audit of a sync costs, and how far apart engine and trainer are.

python benchmarks/audit_time.py                        # the bundled model in float32, vLLM
python benchmarks/audit_time.py --precision bf16
python benchmarks/audit_time.py --sampler transformers --model <folder>
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from rllib_sea.config import SEAConfig
from rllib_sea.policy.audit import probe_tokens, sampler_gap, tolerance
from rllib_sea.policy.models import BUNDLED_MODEL, resolve_model
from rllib_sea.policy.precision import DTYPE_OF_PRECISION
from rllib_sea.policy.sampler import make_sampler
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from text_duel.prompts import load_prompts

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--sampler", default="vllm", choices=["vllm", "transformers"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    path = resolve_model(arguments.model)
    threads = SEAConfig().threads_per_env_runner
    tokenizer = PromptTokenizer(path)
    prompts = [tokenizer.encode(prompt.text) for prompt in load_prompts("tldr_mini", limit=8)]
    learner = PolicyLearner(
        PolicyTrainConfig(
            train_precision=arguments.precision,
            threads_per_worker=threads,
            model_path=str(path),
            probes=probe_tokens(prompts, tokenizer.context_length),
        )
    )
    initial, other = learner.weights("initial"), learner.weights("rehearsal")
    options = {"num_threads": threads, "dtype": DTYPE_OF_PRECISION[arguments.precision]}
    sampler = make_sampler(arguments.sampler, path, 256, options)
    most = tolerance(sampler.dtype, initial.probe.dtype)
    print(f"{arguments.model}, {arguments.sampler}, {arguments.precision}, {threads} threads")
    for version, (name, published) in enumerate((("initial", initial), ("rehearsal", other))):
        sampler.load_weights(published.tensors, version)
        gap = sampler_gap(sampler, published.probe)
        print(f"gap, {name} weights: {gap:.2g} nats per token (tolerance {most:.2g})")
    print(f"gap, had it kept its weights: {sampler_gap(sampler, initial.probe):.2g}")
    for name, action in (
        ("weights into the engine", lambda: sampler.load_weights(initial.tensors, 0)),
        ("audit in the engine", lambda: sampler_gap(sampler, initial.probe)),
        ("probe in the trainer", lambda: learner._probe(learner._strategy.module)),
    ):
        print(f"{name}: {_seconds(action):.3f} s")


def _seconds(action: Callable[[], object]) -> float:
    """The median of several calls."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
