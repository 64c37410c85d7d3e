"""The ensemble of reward heads: a slow loop beside the batched product, numbers by hand."""

import math

import pytest
import torch
from torch.nn import functional

from rllib_sea.reward_model.ensemble import (
    EnsembleMLP,
    bradley_terry_nll,
    ensemble_loss,
    regularisation_strength,
)


def test_forward_equals_one_plain_mlp_per_member() -> None:
    ensemble = EnsembleMLP(num_members=3, feature_dim=5, hidden=(4, 6), seed=1)
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for bias in ensemble.biases:
            bias.normal_(generator=torch.Generator().manual_seed(2))
        batched = ensemble(features)
    for k in range(3):
        for n in range(7):
            hidden = features[n]
            for i in range(3):
                hidden = hidden @ ensemble.weights[i][k] + ensemble.biases[i][k, 0]
                if i < 2:
                    hidden = torch.clamp(hidden, min=0)
            torch.testing.assert_close(batched[k, n], hidden[0])


def test_initial_weights_follow_the_paper() -> None:
    ensemble = EnsembleMLP(num_members=20, feature_dim=256, hidden=(128, 128), seed=0)
    for weight, fan_in in zip(ensemble.weights, (256, 128, 128), strict=True):
        std = 1 / (2 * math.sqrt(fan_in))
        # A normal cut at two standard deviations keeps 0.8796 of the standard deviation.
        assert weight.std().item() == pytest.approx(0.8796 * std, rel=0.05)
        assert weight.abs().max().item() <= 2 * std
    assert all(torch.count_nonzero(bias) == 0 for bias in ensemble.biases)
    assert not torch.equal(ensemble.weights[0][0], ensemble.weights[0][1])


def test_same_seed_same_members() -> None:
    one, two, other = (EnsembleMLP(2, 3, (4,), seed=s) for s in (5, 5, 6))
    assert torch.equal(one.weights[0], two.weights[0])
    assert not torch.equal(one.weights[0], other.weights[0])


def test_distance_from_start_by_hand() -> None:
    ensemble = EnsembleMLP(num_members=2, feature_dim=2, hidden=(), seed=0)
    assert ensemble.squared_distance_from_start().tolist() == [0.0, 0.0]
    with torch.no_grad():
        ensemble.weights[0][0, :, 0] += torch.tensor([3.0, 0.0])
        ensemble.biases[0][0] += 4.0
    torch.testing.assert_close(ensemble.squared_distance_from_start(), torch.tensor([25.0, 0.0]))


def test_initial_weights_travel_with_the_state() -> None:
    source = EnsembleMLP(2, 3, (4,), seed=0)
    with torch.no_grad():
        source.weights[0].add_(1.0)
    copy = EnsembleMLP(2, 3, (4,), seed=99)
    copy.load_state_dict(source.state_dict())
    torch.testing.assert_close(
        copy.squared_distance_from_start(), source.squared_distance_from_start()
    )


def test_nll_by_hand() -> None:
    """Margins (0, ln 3): -log sigmoid gives ln 2 and ln(4/3), mean (ln 2 + ln 4/3) / 2."""
    chosen = torch.tensor([[1.0, math.log(3.0)]])
    rejected = torch.tensor([[1.0, 0.0]])
    expected = (math.log(2) + math.log(4 / 3)) / 2
    assert bradley_terry_nll(chosen, rejected).item() == pytest.approx(expected)


def test_nll_at_extreme_margins_is_finite() -> None:
    nll = bradley_terry_nll(torch.tensor([[1e4], [-1e4]]), torch.zeros(2, 1))
    assert nll.tolist() == [0.0, 1e4]


def test_loss_sums_members_and_pulls_towards_the_start() -> None:
    """NLL (ln 2, ln 2), distances (4, 1), strength 0.5: 2 ln 2 + 0.5 * 5."""
    loss = ensemble_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([4.0, 1.0]), 0.5)
    assert loss.item() == pytest.approx(2 * math.log(2) + 2.5)


def test_regularisation_fades_with_the_labels() -> None:
    assert regularisation_strength(0.5, 128, 128, fade=True) == 0.5
    assert regularisation_strength(0.5, 128, 1280, fade=True) == pytest.approx(0.05)
    assert regularisation_strength(0.5, 128, 1280, fade=False) == 0.5
    assert regularisation_strength(0.5, 16, 16, fade=True) == 0.5


def test_members_learn_a_linear_preference() -> None:
    """A sanity check of the whole loss: accuracy on unseen pairs rises well above chance."""
    rng = torch.Generator().manual_seed(0)
    direction = torch.randn(16, generator=rng)
    pairs = torch.randn(2, 600, 16, generator=rng)
    better = (pairs[0] @ direction > pairs[1] @ direction)[:, None]
    chosen = torch.where(better, pairs[0], pairs[1])
    rejected = torch.where(better, pairs[1], pairs[0])
    ensemble = EnsembleMLP(4, 16, (32,), seed=0)
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-2)
    for _ in range(60):
        loss = ensemble_loss(
            ensemble(chosen[:400]),
            ensemble(rejected[:400]),
            ensemble.squared_distance_from_start(),
            1e-3,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (ensemble(chosen[400:]) > ensemble(rejected[400:])).float().mean()
        assert functional.relu(accuracy - 0.9) > 0
