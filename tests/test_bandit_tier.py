"""The bandit tier's world and figures by hand and by brute force, and its direction."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.sample_efficiency.environment import (
    Labeller,
    World,
    best_of_n,
    expected_value,
    make_world,
    regret,
)
from benchmarks.sample_efficiency.methods import SUITES
from benchmarks.sample_efficiency.policy import SoftmaxPolicy
from benchmarks.sample_efficiency.results import (
    Curves,
    append_run,
    efficiency,
    queries_to,
    read_runs,
)
from benchmarks.sample_efficiency.reward_model import RewardModelOptions
from benchmarks.sample_efficiency.simulation import COLUMNS, Settings, Simulation, sample
from benchmarks.sample_efficiency.tables import baseline_of


@pytest.fixture(autouse=True)
def _one_thread():
    """Small products are faster on one core than on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- The world ------------------------------------------------------------------------


def test_win_rate_by_brute_force():
    world = make_world(3, num_prompts=3, num_responses=5)
    rng = np.random.default_rng(0)
    policy = torch.from_numpy(rng.dirichlet(np.ones(5), size=3)).float()
    start, rewards = world.reference_log_probs.exp(), world.rewards[1]
    expected = 0.0
    for x, y, other in itertools.product(range(3), range(5), range(5)):
        wins = 1 / (1 + math.exp(-float(rewards[x, y] - rewards[x, other])))
        expected += float(policy[x, y] * start[x, other]) * wins / 3
    assert expected_value(policy, world.win_probabilities()[1]) == pytest.approx(expected, abs=1e-6)
    assert expected_value(start, world.win_probabilities()[0]) == pytest.approx(0.5, abs=1e-6)


def test_rewards_span_the_scale_and_depend_on_the_prompt():
    world = make_world(0)
    lowest, highest = world.rewards.amin(dim=2), world.rewards.amax(dim=2)
    torch.testing.assert_close(lowest, torch.zeros_like(lowest))
    torch.testing.assert_close(highest, torch.full_like(highest, 6.0))
    favourites = world.rewards[0].argmax(dim=1)
    assert len(favourites.unique()) > 5
    drift = np.mean([np.corrcoef(*world.rewards[:, x].numpy())[0, 1] for x in range(64)])
    assert drift == pytest.approx(0.5, abs=0.1)  # cos 60 degrees


def test_a_world_is_its_seed():
    torch.testing.assert_close(make_world(1).rewards, make_world(1).rewards, rtol=0, atol=0)
    assert not torch.equal(make_world(1).rewards, make_world(2).rewards)


def test_regret_by_hand():
    best, first, second = np.array([6.0, 5.0]), np.array([4.0, 5.0]), np.array([1.0, 5.0])
    assert regret(best, first, second).tolist() == [3.5, 0.0]


def test_best_of_n_by_brute_force():
    probabilities = torch.tensor([[0.5, 0.2, 0.3]], dtype=torch.float64)
    scores = torch.tensor([[1.0, 3.0, 2.0]])
    expected = np.zeros(3)
    for drawn in itertools.product(range(3), repeat=4):
        best = max(drawn, key=lambda y: float(scores[0, y]))
        expected[best] += math.prod(float(probabilities[0, y]) for y in drawn)
    assert best_of_n(probabilities, scores, 4)[0].numpy() == pytest.approx(expected)
    torch.testing.assert_close(best_of_n(probabilities, scores, 1), probabilities)


def test_labels_follow_bradley_terry_and_flip():
    rng = np.random.default_rng(0)
    uniforms = rng.random((40_000, 2))
    first, second = np.full(40_000, 2.0), np.full(40_000, 1.0)
    sigmoid = 1 / (1 + math.exp(-1))

    def share(**options: float) -> float:
        return Labeller(**options).first_wins(first, second, uniforms).mean()

    assert share() == pytest.approx(sigmoid, abs=0.01)
    assert share(flip=0.3) == pytest.approx(0.7 * sigmoid + 0.3 * (1 - sigmoid), abs=0.01)
    assert share(deterministic=True) == 1.0
    assert share(deterministic=True, flip=0.2) == pytest.approx(0.8, abs=0.01)


def test_samples_have_the_policys_distribution():
    log_probs = torch.tensor([[0.1, 0.6, 0.3], [0.0, 1.0, 0.0]]).log()
    drawn = sample(log_probs, np.random.default_rng(0).random((2, 20_000)))
    assert np.bincount(drawn[0], minlength=3) / 20_000 == pytest.approx([0.1, 0.6, 0.3], abs=0.015)
    assert set(drawn[1]) == {1}
    assert sample(log_probs, np.array([[0.05, 0.15, 0.95]] * 2)).tolist() == [[0, 1, 2], [1, 1, 1]]


# -- The policy -----------------------------------------------------------------------


@pytest.fixture
def small_world() -> World:
    return make_world(0, num_prompts=4, num_responses=6)


def test_a_policy_starts_as_its_reference_and_learns_the_label(small_world: World):
    policy, prompts = SoftmaxPolicy(small_world, 1e-2, seed=0), torch.arange(4)
    torch.testing.assert_close(policy.log_probs(prompts), small_world.reference_log_probs)
    chosen, rejected = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 4, 1, 0])
    for _ in range(20):
        policy.update(prompts, chosen, rejected, loss="dpo", beta=0.1)
    change = policy.log_probs(prompts) - small_world.reference_log_probs
    assert (change.gather(1, chosen[:, None]) > change.gather(1, rejected[:, None])).all()


# -- A run ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["passive", "xpo"])
def test_only_real_labels_are_counted_and_learned(strategy: str):
    settings = Settings(strategy, gamma=0.5, warm_up=32, query_budget=150, best_of_n=2)
    simulation = Simulation(settings, seed=0)
    synthetic = asked = 0
    while simulation.queries < 150:
        duels = simulation.step()
        asked += int(duels.real.sum())
        synthetic += int((duels.valid & ~duels.real).sum())
        assert (duels.first != duels.second)[duels.valid].all()
    assert simulation.queries == asked == 150  # the last round is cut
    assert synthetic > 30
    assert simulation.reward_model.num_labels == 150


def test_xpo_duels_have_one_response_of_the_reference():
    duels = Simulation(Settings("xpo"), seed=0).step()
    assert not duels.first_from_reference.any()


def test_regret_of_a_run_by_hand():
    simulation = Simulation(Settings("random", query_budget=64), seed=0)
    rewards, expected = simulation.world.rewards[0].numpy(), 0.0
    for _ in range(2):
        duels = simulation.step()
        for i, prompt in enumerate(duels.prompts):
            pair = rewards[prompt, [duels.first[i], duels.second[i]]]
            expected += rewards[prompt].max() - pair.mean()
    assert simulation.regret == pytest.approx(expected, rel=1e-5)


def test_preferences_drift_at_the_given_query():
    rows = Simulation(Settings("passive", query_budget=200, drift_at=100), seed=0).run()
    world = make_world(0)
    start = world.reference_log_probs.exp()
    assert [row["queries"] for row in rows] == [0, 100, 200]
    assert rows[0]["win_rate"] == pytest.approx(0.5, abs=1e-6)
    still = Simulation(
        Settings("passive", query_budget=200, drift_at=100, update_policy=False), seed=0
    )
    while still.queries < 200:
        still.step()
    best = world.rewards.amax(dim=2).mean()
    means = [expected_value(start, rewards) for rewards in world.rewards]
    # 128 queries before the drift is noticed at a round's start, 72 after it.
    expected = 128 * (best - means[0]) + 72 * (best - means[1])
    assert still.regret == pytest.approx(float(expected), rel=0.1)


def test_offline_runs_sample_from_the_start():
    simulation = Simulation(Settings("passive", sync_interval=None, lr=0.1), seed=0)
    first = simulation.step().pool
    online = Simulation(Settings("passive", lr=0.1), seed=0)
    assert (online.step().pool == first).all()
    for _ in range(5):
        offline_pool, online_pool = simulation.step().pool, online.step().pool
    assert (offline_pool != online_pool).mean() > 0.5
    # The policy itself learns all the same.
    assert simulation.run()[-1]["win_rate"] != pytest.approx(0.5, abs=1e-3)


def test_every_method_runs():
    for suite in SUITES.values():
        for name, settings in suite.methods.items():
            simulation = Simulation(settings, seed=0)
            simulation.step()
            assert simulation.queries == settings.prompts_per_round, name


def test_parameters_of_a_member():
    assert RewardModelOptions(hidden=(3,)).parameters_of_a_member() == 24 * 3 + 3 + 3 + 1


# -- What is read off curves ----------------------------------------------------------


def test_queries_to_a_level_by_hand():
    queries, curve = np.array([0.0, 100, 200, 300]), np.array([0.5, 0.6, 0.8, 0.7])
    assert queries_to(0.5, queries, curve) == 0
    assert queries_to(0.55, queries, curve) == pytest.approx(50)
    assert queries_to(0.75, queries, curve) == pytest.approx(175)
    assert queries_to(0.81, queries, curve) == math.inf


def _curves(win_rate: np.ndarray) -> Curves:
    queries = np.linspace(0, 1000, win_rate.shape[1])
    return Curves(queries, np.arange(len(win_rate)), {"win_rate": win_rate})


def test_a_method_that_is_twice_as_fast_has_the_ratio_one_half():
    steps = np.linspace(0, 1, 11)
    levels = 0.4 + 0.01 * np.arange(5)[:, None]  # of five seeds
    slow = _curves(0.5 + levels * steps)
    fast = _curves(0.5 + levels * np.minimum(2 * steps, 1))
    result = efficiency(fast, slow)
    assert result.queries == pytest.approx(475)  # 95% of the way to 0.92
    assert result.ratio == pytest.approx(0.5)
    assert result.ratio_interval == pytest.approx((0.5, 0.5))
    assert efficiency(slow, slow).ratio_interval == pytest.approx((1.0, 1.0))


def test_a_method_is_compared_with_passive_under_its_condition():
    runs = dict.fromkeys(["passive", "passive, flip 0.1"], _curves(np.zeros((1, 2))))
    assert baseline_of("bai_ts+mix, flip 0.1", runs) == "passive, flip 0.1"
    assert (
        baseline_of("bai_ts+mix, best_vs_worst, gamma 0.5, flip 0.1", runs) == "passive, flip 0.1"
    )
    assert baseline_of("bai_ts+mix, best_vs_worst, gamma 0.5", runs) == "passive"
    assert baseline_of("passive", runs) == "passive"


def test_runs_come_back_from_their_file(tmp_path: Path):
    file = tmp_path / "runs" / "main.csv"
    row = dict.fromkeys(COLUMNS, 0.25) | {"queries": 0.0, "best_of_n": math.nan}
    for seed in (1, 0):
        append_run(file, "bai_ts, x", seed, [row, row | {"queries": 100.0, "win_rate": 0.6}])
    curves = read_runs(file)["bai_ts, x"]
    assert curves.seeds.tolist() == [0, 1]
    assert curves.queries.tolist() == [0, 100]
    assert curves.columns["win_rate"].tolist() == [[0.25, 0.6]] * 2
    assert np.isnan(curves.columns["best_of_n"]).all()


# -- The direction --------------------------------------------------------------------


def test_sea_needs_fewer_queries_than_passive():
    """The whole tier, at reduced size: 3 seeds, fewer queries, a larger learning rate."""
    needed = {}
    for name, settings in {
        "passive": Settings("passive", lr=5e-3, query_budget=1200),
        "sea": Settings("bai_ts", gamma=0.7, lr=5e-3, query_budget=1200),
    }.items():
        runs = [Simulation(settings, seed).run() for seed in range(3)]
        queries = np.array([row["queries"] for row in runs[0]])
        curves = np.array([[row["win_rate"] for row in run] for run in runs])
        needed[name] = np.array([queries_to(0.6, queries, curve) for curve in curves])
    assert (needed["sea"] < needed["passive"]).all()
    assert needed["sea"].mean() < 0.8 * needed["passive"].mean() < 1200
