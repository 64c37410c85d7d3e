"""Seconds of the ERM's update in a round, in plain torch and through RLlib's learner.

    python benchmarks/erm_time.py
    python benchmarks/erm_time.py --features 1152 --prior-scale 1 --bootstrap 0.5

By default the paper's: 5 minibatches of 128 labels, 2048 features, K = 20, hidden [128, 128].
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rllib_sea import SEAConfig
from rllib_sea.reward_model.columns import (
    CHOSEN_FEATURES,
    MEMBER_MASKS,
    PREFERENCES,
    REJECTED_FEATURES,
    STRENGTH,
    WEIGHTS,
)
from rllib_sea.reward_model.ensemble import EnsembleMLP, ensemble_loss

NUM_MINIBATCHES, SIZE, NUM_MEMBERS, HIDDEN = 5, 128, 20, [128, 128]


def make_batch(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Five minibatches of random labels, as the replay gives them."""
    rng = np.random.default_rng(0)
    num_labels = NUM_MINIBATCHES * SIZE
    chosen, rejected = rng.normal(size=(2, num_labels, arguments.features)).astype(np.float32)
    batch = {
        CHOSEN_FEATURES: chosen,
        REJECTED_FEATURES: rejected,
        PREFERENCES: np.ones(num_labels, dtype=np.float32),
        WEIGHTS: np.ones(num_labels, dtype=np.float32),
        STRENGTH: np.full(num_labels, 0.5, dtype=np.float32),
    }
    if arguments.bootstrap < 1:
        batch[MEMBER_MASKS] = rng.random((num_labels, NUM_MEMBERS)) < arguments.bootstrap
    return batch


def plain_update(
    arguments: argparse.Namespace, batch: dict[str, np.ndarray]
) -> Callable[[], object]:
    """The update in torch, nothing around it."""
    ensemble = EnsembleMLP(
        NUM_MEMBERS, arguments.features, HIDDEN, prior_scale=arguments.prior_scale
    )
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-3, weight_decay=5e-5, fused=True)
    tensors = {key: torch.from_numpy(values) for key, values in batch.items()}

    def update() -> None:
        for start in range(0, NUM_MINIBATCHES * SIZE, SIZE):
            part = {key: values[start : start + SIZE] for key, values in tensors.items()}
            rewards = ensemble(torch.cat([part[CHOSEN_FEATURES], part[REJECTED_FEATURES]]))
            loss = ensemble_loss(
                rewards[:, :SIZE],
                rewards[:, SIZE:],
                ensemble.squared_distance_from_start(),
                part[STRENGTH][0],
                part.get(MEMBER_MASKS),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return update


def learner_update(
    arguments: argparse.Namespace, batch: dict[str, np.ndarray]
) -> Callable[[], object]:
    """The update as `SEA.training_step` asks for it."""
    config = SEAConfig()
    config.ensemble_size, config.erm_hidden = NUM_MEMBERS, HIDDEN
    spec = config.get_default_rl_module_spec()
    spec.model_config["prior_scale"] = arguments.prior_scale
    spec.observation_space = gym.spaces.Box(-np.inf, np.inf, (arguments.features,), np.float32)
    spec.action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    group = config.build_learner_group(rl_module_spec=spec)

    def update() -> object:
        return group.update(
            batch=MultiAgentBatch(
                {DEFAULT_MODULE_ID: SampleBatch(batch)}, env_steps=NUM_MINIBATCHES * SIZE
            ),
            minibatch_size=SIZE,
        )

    return update


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=2048, help="d (2048)")
    parser.add_argument("--prior-scale", type=float, default=0.0, help="as erm_prior_scale (0)")
    parser.add_argument("--bootstrap", type=float, default=1.0, help="as erm_bootstrap (1)")
    parser.add_argument("--repeats", type=int, default=10, help="updates after the first (10)")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    batch = make_batch(arguments)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':<16}{'median':>8}{'least':>8}{'most':>8}   seconds an update")
    for name, make in (("plain torch", plain_update), ("RLlib's learner", learner_update)):
        update = make(arguments, batch)
        update()
        seconds = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            update()
            seconds.append(time.perf_counter() - start)
        print(f"{name:<16}{median(seconds):>8.3f}{min(seconds):>8.3f}{max(seconds):>8.3f}")


if __name__ == "__main__":
    main()
