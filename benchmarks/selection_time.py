"""Milliseconds that every exploration strategy takes for one round, on one core.

    python benchmarks/selection_time.py
    python benchmarks/selection_time.py --prompts 256 --candidates 20 --members 100

The generators are made outside of the timing.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from rllib_sea.exploration import STRATEGIES, Proposals
from rllib_sea.randomness import Stream, generators

BAR_MS = 20.0  # a round's selection is to be nothing beside its sampling


def example(num_members: int, num_prompts: int, num_candidates: int) -> Proposals:
    """Normal rewards and log-probabilities; every fourth candidate copies the first's text."""
    torch.manual_seed(0)
    shape = (num_prompts, num_candidates)
    texts = torch.arange(num_candidates) * (torch.arange(num_candidates) % 4 > 0)
    return Proposals(
        rewards=torch.randn(num_members, *shape),
        texts=texts.expand(shape).contiguous(),
        log_probs=-torch.rand(shape),
        implicit_rewards=torch.randn(shape),
        from_reference=torch.arange(num_candidates) >= (num_candidates + 1) // 2,
        finished=torch.ones(shape, dtype=torch.bool),
    )


def milliseconds(name: str, proposals: Proposals, repeats: int) -> list[float]:
    """The time of each of ``repeats`` selections, after two to warm up."""
    times = []
    for i in range(repeats + 2):
        rngs = generators(0, i, range(proposals.texts.shape[0]), Stream.SELECTION)
        start = time.perf_counter()
        STRATEGIES[name].select(proposals, rngs)
        times.append(1e3 * (time.perf_counter() - start))
    return times[2:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()

    torch.set_num_threads(1)
    proposals = example(args.members, args.prompts, args.candidates)
    print(f"{args.prompts} prompts x {args.candidates} candidates x {args.members} members, 1 core")
    print(f"{'strategy':<12} {'median ms':>9} {'worst ms':>9}")
    for name in STRATEGIES:
        times = milliseconds(name, proposals, args.repeats)
        note = f"  over {BAR_MS:g}" if median(times) > BAR_MS else ""
        print(f"{name:<12} {median(times):>9.2f} {max(times):>9.2f}{note}")


if __name__ == "__main__":
    main()
