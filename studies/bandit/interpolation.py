"""Whether a policy should be drawn back towards its start when its run has ended.

    python -m studies.bandit.interpolation

The weights of the policy after 3200 queries are moved to ``start + share (end - start)`` (WARP,
arXiv 2406.16768, calls it LITI). The share can be chosen by the ERM: the largest mean less two
standard deviations over members of the win rate over the start. Means of 5 seeds; some minutes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from studies.bandit.environment import World, divergence, expected_value
from studies.bandit.methods import EARLY, RECIPE, SUITES
from studies.bandit.policy import SoftmaxPolicy
from studies.bandit.reward_model import BanditRewardModel
from studies.bandit.simulation import Simulation

SHOWN = {
    "main": (f"bai_ts+mix, {RECIPE}", f"bai_ts+mix, {RECIPE}, replay 1"),
    "noise": (f"bai_ts+mix, {RECIPE}, flip 0.3",),
    "early": (f"bai_ts+mix, gamma 0.1, {EARLY}",),
}
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
NUM_SEEDS = 5


@torch.no_grad()
def drawn_back(
    end: SoftmaxPolicy, start: SoftmaxPolicy, share: float, prompts: torch.Tensor
) -> torch.Tensor:
    """(B, R) log-probabilities of the policy between start and end.

    Args:
        end: Gets the weights, and has its own again afterwards.
        start: As it was made.
        share: Of the way from start to end.
        prompts: (B,) indices.
    """
    network = end.network
    last = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = start.network.state_dict()
    network.load_state_dict({name: first[name].lerp(last[name], share) for name in last})
    log_probs = end.log_probs(prompts)
    network.load_state_dict(last)
    return log_probs


@torch.no_grad()
def lower_bound(model: BanditRewardModel, world: World, log_probs: torch.Tensor) -> float:
    """The ERM's win rate over the start: its mean over members less two standard deviations."""
    won = []
    for prompt in torch.arange(len(log_probs)):
        rewards = model.rewards(world.all_features(prompt[None]))[:, 0]  # (K, R)
        over = torch.sigmoid(rewards[:, :, None] - rewards[:, None, :])
        start = world.reference_log_probs[prompt].exp()
        won.append(torch.einsum("krs,r,s->k", over, log_probs[prompt].exp(), start))
    wins = torch.stack(won).mean(dim=0)
    return float(wins.mean() - 2 * wins.std())


def main() -> None:
    torch.set_num_threads(1)
    shares = " | ".join(f"{share:g}" for share in SHARES)
    print(f"| win rate, KL at the share of the way | {shares} | the ERM's choice, its win rate |")
    print("|---" * (len(SHARES) + 2) + "|")
    for suite, names in SHOWN.items():
        for name in names:
            settings = replace(SUITES[suite].methods[name], best_of_n=None)
            measured, chosen = np.zeros((NUM_SEEDS, len(SHARES), 2)), []
            for seed in range(NUM_SEEDS):
                run = Simulation(settings, seed)
                run.run()
                prompts = torch.arange(len(run.world.reference_log_probs))
                start = SoftmaxPolicy(run.world, settings.lr, seed)
                table = run.world.win_probabilities()[0]
                bounds = []
                for i, share in enumerate(SHARES):
                    log_probs = drawn_back(run.policy, start, share, prompts)
                    measured[seed, i, 0] = expected_value(log_probs.exp(), table)
                    measured[seed, i, 1] = divergence(log_probs, run.world.reference_log_probs)
                    bounds.append(lower_bound(run.reward_model, run.world, log_probs))
                chosen.append(int(np.argmax(bounds)))
            cells = [f"{win:.3f}, {kl:.1f}" for win, kl in measured.mean(axis=0)]
            taken = measured[np.arange(NUM_SEEDS), chosen, 0].mean()
            mean_share = np.mean([SHARES[i] for i in chosen])
            print(f"| {name} | {' | '.join(cells)} | {mean_share:.2f}, {taken:.3f} |", flush=True)


if __name__ == "__main__":
    main()
