"""Mixed preference learning: schedules, draws and synthetic labels."""

import numpy as np
import pytest
import torch

from rllib_sea.exploration import Proposals, Selection
from rllib_sea.exploration.mixing import best_and_worst, draw_synthetic, gamma_at, mix

PAPER = [[0, 1.0], [1000, 1.0], [1001, 0.7]]


@pytest.mark.parametrize(
    ("queries", "expected"), [(0, 1.0), (1000, 1.0), (1001, 0.7), (50_000, 0.7)]
)
def test_the_papers_schedule(queries: int, expected: float) -> None:
    assert gamma_at(PAPER, queries) == pytest.approx(expected)


def test_a_number_is_constant_and_points_are_joined_by_lines() -> None:
    assert gamma_at(0.7, 123) == 0.7
    assert gamma_at([[0, 1.0], [100, 0.5]], 50) == pytest.approx(0.75)


def test_the_real_fraction_is_within_its_binomial_interval() -> None:
    num, gamma = 5000, 0.7
    synthetic = draw_synthetic(gamma, [np.random.default_rng([3, i]) for i in range(num)])
    real = num - sum(synthetic)
    assert abs(real - gamma * num) < 3.3 * np.sqrt(num * gamma * (1 - gamma))


def test_gamma_one_and_zero_are_exact() -> None:
    rngs = [np.random.default_rng(i) for i in range(100)]
    assert not any(draw_synthetic(1.0, rngs))
    assert all(draw_synthetic(0.0, rngs))


def test_best_and_worst_of_another_text() -> None:
    rewards = torch.tensor([[[0.0, 2.0, 1.0, 0.0]], [[5.0, -1.0, 4.0, 5.0]]])
    texts = torch.tensor([[0, 1, 2, 0]])
    best, worst = best_and_worst(rewards, texts, torch.tensor([1]))
    assert (best.item(), worst.item()) == (0, 1)
    flat = torch.zeros(1, 1, 3)
    best, worst = best_and_worst(flat, torch.tensor([[0, 0, 2]]), torch.tensor([0]))
    assert (best.item(), worst.item()) == (0, 2)


def selection(num: int) -> Selection:
    """Candidate 0 against candidate 1, for every prompt, drawn by member 5."""
    zeros = np.zeros(num, dtype=np.int64)
    everyone = np.ones(num, dtype=bool)
    return Selection(zeros, zeros + 1, zeros + 5, valid=everyone, clash=~everyone)


def proposals(rewards: torch.Tensor) -> Proposals:
    """Candidates that are all different texts."""
    _, num_prompts, num_candidates = rewards.shape
    return Proposals(
        rewards=rewards,
        texts=torch.arange(num_candidates).expand(num_prompts, -1),
        log_probs=torch.zeros(num_prompts, num_candidates),
        implicit_rewards=None,
        from_reference=torch.zeros(num_candidates, dtype=torch.bool),
    )


def test_synthetic_labels_are_those_of_the_drawn_member() -> None:
    rewards = torch.randn(7, 40, 3, generator=torch.Generator().manual_seed(0))
    synthetic = [i % 2 == 0 for i in range(40)]
    rngs = [np.random.default_rng(i) for i in range(40)]
    mixed = mix(selection(40), proposals(rewards), synthetic, "selected_pair", rngs)
    assert mixed.first.tolist() == [0] * 40
    assert mixed.second.tolist() == [1] * 40
    for b in range(40):
        if synthetic[b]:
            r = rewards[mixed.member[b], b]
            assert bool(mixed.first_wins[b]) == bool(r[0] > r[1])
        else:
            assert mixed.member[b] == 5
    assert len(set(mixed.member[::2].tolist())) > 3


def test_best_vs_worst_replaces_the_synthetic_pairs_only() -> None:
    rewards = torch.tensor([[[0.0, 1.0, 2.0, -1.0]] * 2])  # one member, two prompts
    rngs = [np.random.default_rng(i) for i in range(2)]
    mixed = mix(selection(2), proposals(rewards), [True, False], "best_vs_worst", rngs)
    assert (mixed.first[0], mixed.second[0], mixed.first_wins[0]) == (2, 3, True)
    assert (mixed.first[1], mixed.second[1]) == (0, 1)
