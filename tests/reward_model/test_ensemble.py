"""The ensemble of reward heads: a slow loop beside the batched product, numbers by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from rllib_sea.reward_model.ensemble import (
    EnsembleMLP,
    ensemble_loss,
    member_nll,
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
    assert member_nll(chosen, rejected).item() == pytest.approx(expected)


def test_nll_at_extreme_margins_is_finite() -> None:
    nll = member_nll(torch.tensor([[1e4], [-1e4]]), torch.zeros(2, 1))
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


# -- Randomised prior functions -------------------------------------------------------


def test_without_a_scale_there_are_no_priors() -> None:
    plain, other = EnsembleMLP(2, 3, (4,)), EnsembleMLP(2, 3, (4,), prior_hidden=(99,))
    assert plain.state_dict().keys() == other.state_dict().keys()
    assert not any("prior" in name for name in plain.state_dict())


def test_priors_are_added_to_what_is_learned() -> None:
    plain = EnsembleMLP(3, 5, (4,), seed=1)
    ensemble = EnsembleMLP(3, 5, (4,), seed=1, prior_scale=2.5, prior_hidden=(6, 7))
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rewards, learned = ensemble(features), plain(features)
    for k in range(3):
        first, second, last = (ensemble.get_buffer(f"prior_weights_{i}")[k] for i in range(3))
        for n in range(8):
            prior = torch.relu(torch.relu(features[n] @ first) @ second) @ last
            torch.testing.assert_close(rewards[k, n], learned[k, n] + 2.5 * prior[0])


def test_priors_do_not_share_the_draws_of_the_initial_weights() -> None:
    ensemble = EnsembleMLP(2, 8, (8,), seed=3, prior_scale=1.0, prior_hidden=(8,))
    again, other = (
        EnsembleMLP(2, 8, (8,), seed=s, prior_scale=1.0, prior_hidden=(8,)) for s in (3, 4)
    )
    prior = ensemble.get_buffer("prior_weights_0")
    assert torch.equal(prior, again.get_buffer("prior_weights_0"))
    assert not torch.equal(prior, other.get_buffer("prior_weights_0"))
    assert not torch.equal(prior[0], prior[1])
    both = torch.stack([prior.flatten(), ensemble.weights[0].detach().flatten()])
    assert torch.corrcoef(both)[0, 1].abs() < 0.3  # 128 draws of independent numbers


def test_priors_are_fixed_and_travel_with_the_state() -> None:
    ensemble = EnsembleMLP(3, 5, (4,), seed=0, prior_scale=1.0, prior_hidden=(6,))
    before = {n: b.clone() for n, b in ensemble.named_buffers()}
    chosen, rejected = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        loss = ensemble_loss(ensemble(chosen), ensemble(rejected), torch.zeros(3), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ensemble.squared_distance_from_start().detach().min() > 0.1
    assert sum("prior" in name for name in before) == 2
    for name, buffer in ensemble.named_buffers():
        assert torch.equal(buffer, before[name])
    copy = EnsembleMLP(3, 5, (4,), seed=77, prior_scale=1.0, prior_hidden=(6,))
    copy.load_state_dict(ensemble.state_dict())
    assert torch.equal(copy(chosen), ensemble(chosen))


@pytest.mark.parametrize("hidden", [(), (64,), (64, 64), (32, 256, 32)])
def test_the_priors_rewards_have_standard_deviation_one(hidden: tuple[int, ...]) -> None:
    """Over members, on features of root mean square 1, however deep the priors are."""
    scale = 3.0
    one, plain = (
        EnsembleMLP(1000, 96, (1,), prior_scale=s, prior_hidden=hidden) for s in (scale, 0.0)
    )
    features = torch.randn(16, 96, generator=torch.Generator().manual_seed(0))
    features /= features.square().mean(1, keepdim=True).sqrt()
    with torch.no_grad():
        priors = one(features) - plain(features)
    assert priors.mean(0).abs().max() < 0.2 * scale
    assert priors.std(0).square().mean().sqrt().item() == pytest.approx(scale, rel=0.1)


# -- Bootstrap masks ------------------------------------------------------------------


def test_masked_nll_by_hand() -> None:
    """Margins (0, ln 3): member 0 has the first label, member 1 both, member 2 none."""
    chosen = torch.tensor([[0.0, math.log(3.0)]] * 3)
    masks = torch.tensor([[True, True, False], [False, True, False]])
    nll = member_nll(chosen, torch.zeros(3, 2), masks)
    expected = [math.log(2), (math.log(2) + math.log(4 / 3)) / 2, 0.0]
    assert nll.tolist() == pytest.approx(expected)


def test_masked_loss_equals_a_loop_over_members_and_their_labels() -> None:
    rng = np.random.default_rng(0)
    ensemble = EnsembleMLP(5, 4, (6,), seed=2)
    with torch.no_grad():
        ensemble.weights[0].add_(0.1)
    chosen, rejected = torch.from_numpy(rng.normal(size=(2, 30, 4)).astype(np.float32))
    masks = torch.from_numpy(rng.random((30, 5)) < 0.4)
    distance = ensemble.squared_distance_from_start()
    loss = ensemble_loss(ensemble(chosen), ensemble(rejected), distance, 0.3, masks)
    gradients = torch.autograd.grad(loss, list(ensemble.parameters()), retain_graph=True)
    slow = torch.zeros(())
    for k in range(5):
        own = masks[:, k]
        margin = ensemble(chosen[own])[k] - ensemble(rejected[own])[k]
        slow = slow - functional.logsigmoid(margin).mean() + 0.3 * distance[k]
    slow_gradients = torch.autograd.grad(slow, list(ensemble.parameters()))
    torch.testing.assert_close(loss, slow)
    for one, other in zip(gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_mask_of_all_is_no_mask() -> None:
    chosen, rejected = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))
    everyone = torch.ones(10, 3, dtype=torch.bool)
    torch.testing.assert_close(member_nll(chosen, rejected, everyone), member_nll(chosen, rejected))


def test_a_member_without_labels_moves_by_the_regulariser_alone() -> None:
    ensemble = EnsembleMLP(3, 4, (6,), seed=0)
    chosen, rejected = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(8, 3, dtype=torch.bool)
    masks[:, 1] = False
    start = ensemble.weights[0].detach().clone()
    with torch.no_grad():
        ensemble.weights[0].add_(1.0)
    distance = ensemble.squared_distance_from_start()
    loss = ensemble_loss(ensemble(chosen), ensemble(rejected), distance, 0.25, masks)
    loss.backward()
    pull = 2 * 0.25 * (ensemble.weights[0].detach() - start)
    gradient = ensemble.weights[0].grad
    assert gradient is not None
    torch.testing.assert_close(gradient[1], pull[1])
    assert not torch.allclose(gradient[0], pull[0])
    assert ensemble.weights[1].grad is not None
    assert torch.count_nonzero(ensemble.weights[1].grad[1]) == 0
