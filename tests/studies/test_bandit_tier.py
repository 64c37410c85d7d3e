"""The bandit tier's world and figures by hand and by brute force, and its direction."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from studies.bandit.controls import (
    CONTROLLED,
    SETTINGS,
    baseline_of,
    control_of,
    labels_per_update,
    replayed_control_of,
)
from studies.bandit.environment import (
    Labeller,
    World,
    best_of_n,
    divergence,
    expected_value,
    make_world,
    regret,
)
from studies.bandit.interpolation import drawn_back
from studies.bandit.methods import BEST_RATES, EARLY, RECIPE, SUITES, TUNED_SUFFIX
from studies.bandit.names import label
from studies.bandit.policy import SoftmaxPolicy
from studies.bandit.rates import BETAS, RATES, candidates
from studies.bandit.results import (
    Curves,
    append_run,
    efficiency,
    queries_to,
    ratios_by_seed,
    read_runs,
)
from studies.bandit.reward_model import RewardModelOptions
from studies.bandit.settings import Settings
from studies.bandit.simulation import COLUMNS, Simulation, sample
from studies.bandit.tables import control_cells, efficiency_table, last_cell, tuned_table


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
    assert share(sharpness=0.3) == pytest.approx(1 / (1 + math.exp(-0.3)), abs=0.01)
    assert share(flip=0.3) == pytest.approx(0.7 * sigmoid + 0.3 * (1 - sigmoid), abs=0.01)
    assert share(deterministic=True) == 1.0
    assert share(deterministic=True, flip=0.2) == pytest.approx(0.8, abs=0.01)


def test_samples_have_the_policys_distribution():
    log_probs = torch.tensor([[0.1, 0.6, 0.3], [0.0, 1.0, 0.0]]).log()
    drawn = sample(log_probs, np.random.default_rng(0).random((2, 20_000)))
    assert np.bincount(drawn[0], minlength=3) / 20_000 == pytest.approx([0.1, 0.6, 0.3], abs=0.015)
    assert set(drawn[1]) == {1}
    assert sample(log_probs, np.array([[0.05, 0.15, 0.95]] * 2)).tolist() == [[0, 1, 2], [1, 1, 1]]


def test_divergence_by_brute_force():
    rng = np.random.default_rng(1)
    policy, reference = rng.dirichlet(np.ones(5), size=(2, 3))
    expected = 0.0
    for x, y in itertools.product(range(3), range(5)):
        expected += policy[x, y] * math.log(policy[x, y] / reference[x, y]) / 3
    log_probs = [torch.from_numpy(p).log() for p in (policy, reference)]
    assert divergence(*log_probs) == pytest.approx(expected)
    assert divergence(log_probs[0], log_probs[0]) == 0


# -- The policy -----------------------------------------------------------------------


@pytest.fixture
def small_world() -> World:
    return make_world(0, num_prompts=4, num_responses=6)


def test_a_policy_starts_as_its_reference_and_learns_the_label(small_world: World):
    policy, prompts = SoftmaxPolicy(small_world, 1e-2, seed=0), torch.arange(4)
    torch.testing.assert_close(policy.log_probs(prompts), small_world.reference_log_probs)
    chosen, rejected = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 4, 1, 0])
    for _ in range(20):
        policy.update(prompts, chosen, rejected, preference=torch.ones(4), loss="dpo", beta=0.1)
    change = policy.log_probs(prompts) - small_world.reference_log_probs
    assert (change.gather(1, chosen[:, None]) > change.gather(1, rejected[:, None])).all()


def test_a_policy_is_drawn_back_to_its_start(small_world: World):
    prompts = torch.arange(4)
    start, end = (SoftmaxPolicy(small_world, 1e-2, seed=0) for _ in range(2))
    for _ in range(20):
        end.update(prompts, prompts, prompts + 1, preference=torch.ones(4), loss="dpo", beta=0.1)
    with torch.inference_mode():
        before = end.log_probs(prompts)
    far, half, near = (
        divergence(drawn_back(end, start, share, prompts), small_world.reference_log_probs)
        for share in (1.0, 0.5, 0.0)
    )
    assert near == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < half < far
    with torch.inference_mode():
        torch.testing.assert_close(drawn_back(end, start, 1.0, prompts), before)
        torch.testing.assert_close(end.log_probs(prompts), before)


# -- A run ----------------------------------------------------------------------------


def test_reinforce_raises_what_the_ensemble_prefers(small_world: World):
    """Of each prompt the first candidate is better than the others; the pull holds it back."""
    prompts, pool = torch.tensor([0, 1]), torch.tensor([[0, 1, 2], [3, 4, 5]])
    advantage = torch.tensor([[0.5, -0.25, -0.25]] * 2)
    rose = []
    for beta in (0.0, 100.0):
        policy = SoftmaxPolicy(small_world, 1e-2, 0)
        for _ in range(20):
            policy.reinforce(prompts, pool, advantage, beta=beta)
        with torch.inference_mode():
            learned = policy.log_probs(prompts) - small_world.reference_log_probs[prompts]
        change = learned.gather(1, pool)
        assert (change[:, 0] > change[:, 1:].max(dim=1).values).all()
        rose.append(float(change[:, 0].mean()))
    assert rose[0] > 10 * abs(rose[1])


def test_with_reinforce_the_policy_stays_until_the_warm_up_has_ended():
    settings = replace(Settings("random", loss="reinforce", beta=0.02), warm_up=64)
    assert settings.uses_reward_model
    run = Simulation(settings, 0)
    kls = []
    for _ in range(3):
        run.step()
        kls.append(run._divergence())
    assert kls[0] == pytest.approx(0.0, abs=1e-6)  # after 32 queries of 64
    assert 1e-5 < kls[1] < kls[2]


def test_with_reinforce_the_policy_stays_until_the_ensemble_is_right():
    settings = Settings("random", loss="reinforce", beta=0.02, audit_threshold=1.0)
    run = Simulation(replace(settings, warm_up=0), 0)
    run.step()
    assert run._divergence() == pytest.approx(0.0, abs=1e-6)
    run = Simulation(replace(settings, warm_up=0, audit_threshold=0.0), 0)
    run.step()
    assert run._divergence() > 1e-5


def test_beyond_the_limit_of_divergence_the_ensemble_labels_no_pair():
    settings = Settings("random", gamma=0.0, warm_up=0, mixing_kl_limit=1e-3)
    run = Simulation(settings, 0)
    run.step()  # without a label gamma is 1
    seen = set()
    for _ in range(8):
        near = run._divergence() <= 1e-3
        assert run.step().real.any() == (not near)
        seen.add(near)
    assert seen == {True, False}


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


def test_steps_and_divergence_are_zero_at_the_start_and_counted_after_it():
    settings = Settings("random", gamma=0.5, warm_up=32, query_budget=200, policy_replay=2)
    rows = Simulation(settings, seed=0).run()
    assert rows[0]["steps"] == 0
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(rows[0]["replay_age"])
    assert rows[-1]["steps"] % 3 == 0  # one on the round's pairs, two on those of all rounds
    assert rows[-1]["steps"] > 3 * 200 / 32
    assert rows[-1]["kl"] > 0
    assert rows[-1]["replay_age"] > 0
    still = Simulation(Settings("random", update_policy=False, query_budget=100), seed=0).run()
    assert still[-1]["steps"] == 0
    assert still[-1]["kl"] == pytest.approx(0, abs=1e-6)


def test_replay_draws_from_the_oracles_pairs_of_all_rounds(monkeypatch: pytest.MonkeyPatch):
    settings = Settings("random", gamma=0.5, warm_up=0, query_budget=400, policy_replay=2)
    simulation = Simulation(settings, seed=0)
    updates: list[list[tuple[int, int, int]]] = []

    def update(*index: torch.Tensor, **_: object) -> None:
        updates.append(list(zip(*(i.tolist() for i in index), strict=True)))

    monkeypatch.setattr(simulation.policy, "update", update)
    real: list[tuple[int, int, int]] = []
    synthetic, this_round_replayed = 0, False
    for _ in range(8):
        updates.clear()
        duels = simulation.step()
        winners = np.where(duels.first_wins, duels.first, duels.second)
        losers = np.where(duels.first_wins, duels.second, duels.first)
        pairs = list(zip(duels.prompts.tolist(), winners.tolist(), losers.tolist(), strict=True))
        new = [pair for pair, is_real in zip(pairs, duels.real, strict=True) if is_real]
        real += new
        own, *replayed = updates
        assert own == [pair for pair, valid in zip(pairs, duels.valid, strict=True) if valid]
        synthetic += len(own) - len(new)
        for drawn in replayed:
            assert len(drawn) == min(32, len(real))
            assert set(drawn) <= set(real)
            this_round_replayed |= bool(set(drawn) & set(new))
        assert replayed[0] != replayed[1]
    assert synthetic > 30
    assert this_round_replayed


def test_soft_labels_reach_the_policy_and_pairs_in_doubt_do_not(
    monkeypatch: pytest.MonkeyPatch,
):
    settings = Settings(
        "random", gamma=0.3, warm_up=0, synthetic_labels="soft", synthetic_agreement=0.7
    )
    simulation = Simulation(settings, seed=0)
    learned: list[torch.Tensor] = []

    def update(*_: torch.Tensor, preference: torch.Tensor, **__: object) -> None:
        learned.append(preference)

    monkeypatch.setattr(simulation.policy, "update", update)
    dropped = 0
    for _ in range(6):
        duels = simulation.step()
        own = duels.valid & ~duels.real
        dropped += 32 - len(learned[-1])
        assert (learned[-1].numpy()[duels.real[duels.valid]] == 1.0).all()
        soft = learned[-1].numpy()[own[duels.valid]]
        assert ((soft >= 0.5) & (soft < 1.0)).all()
        # Members that agree are those whose mean is on the winner's side.
        rows = np.flatnonzero(own)
        first, second = duels.first_place[rows], duels.second_place[rows]
        margins = duels.rewards[:, rows, first] - duels.rewards[:, rows, second]
        sides = np.maximum((margins > 0).mean(axis=0), (margins < 0).mean(axis=0))
        assert (sides >= 0.7 - 1e-9).all()
    assert dropped > 5


def test_an_audited_run_asks_alone_until_the_erm_is_right():
    settings = Settings(
        "bai_ts", gamma=0.5, warm_up=0, synthetic_pair="best_vs_worst", audit_threshold=0.3
    )
    simulation = Simulation(settings, seed=0)
    assert simulation.step().real.all()
    trusted = []
    for _ in range(6):
        trusted.append(simulation.audit.trusted)
        assert simulation.step().real.all() != trusted[-1]
    assert trusted[-1]
    share = replace(settings, audit_share=0.25)
    audited = Simulation(share, seed=0).step()
    assert 0 < audited.audited.sum() < 20
    best = audited.rewards[:, audited.audited].max(axis=2)
    own = np.flatnonzero(audited.audited)
    assert (audited.rewards[:, own, audited.first_place[own]] == best).any(axis=0).all()


def test_a_replayed_policy_asks_the_same_first_round():
    once, again = (Simulation(Settings("passive", policy_replay=n), seed=0) for n in (0, 3))
    first, second = once.step(), again.step()
    assert (first.pool == second.pool).all()
    assert (first.first_wins == second.first_wins).all()
    assert (once.step().pool != again.step().pool).any()


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


def test_preferences_drift_also_after_a_run_has_nothing_left_to_ask():
    settings = Settings("passive", query_budget=400, drift_at=200)
    simulation = Simulation(settings, seed=0)
    simulation.step()
    (before, after, end) = simulation._as_it_would_go_on(simulation._measure(None))
    assert [row["queries"] for row in (before, after, end)] == [199, 200, 400]
    assert [row["asked"] for row in (before, after, end)] == [32] * 3
    probabilities = simulation.policy.log_probs(simulation._prompts).exp()
    rates = [expected_value(probabilities, wins) for wins in simulation._wins]
    assert (before["win_rate"], after["win_rate"]) == pytest.approx(rates)
    best = simulation.world.rewards.amax(dim=2).mean()
    rewards = simulation.world.rewards
    regrets = [float(best - expected_value(probabilities, r)) for r in rewards]
    assert end["regret"] - before["regret"] == pytest.approx(regrets[0] + 200 * regrets[1], abs=1)


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


def test_each_seed_by_its_own_target_by_hand():
    """The first needs half of its passive's labels, the second none reaches; the third alone."""
    queries = np.array([0.0, 100.0, 200.0])

    def curves(*win_rates: tuple[float, float, float]) -> Curves:
        return Curves(queries, np.arange(len(win_rates)), {"win_rate": np.array(win_rates)})

    passive = curves((0.5, 0.5, 0.7), (0.5, 0.5, 0.7), (0.5, 0.5, 0.7))
    control = curves((0.5, 0.69, 0.7), (0.5, 0.69, 0.7), (0.5, 0.5, 0.5))
    method = curves((0.5, 0.69, 0.7), (0.5, 0.5, 0.6), (0.5, 0.69, 0.7))
    needed = 100 + 100 * 0.95
    assert ratios_by_seed(method, passive) == pytest.approx(
        {0: 100 / needed, 1: math.inf, 2: 100 / needed}
    )
    assert ratios_by_seed(method, passive, control) == {0: 1.0, 1: math.inf, 2: 0.0}
    assert ratios_by_seed(method.only([2]), passive).keys() == {2}


def test_queries_to_a_level_by_hand():
    queries, curve = np.array([0.0, 100, 200, 300]), np.array([0.5, 0.6, 0.8, 0.7])
    assert queries_to(0.5, queries, curve) == 0
    assert queries_to(0.55, queries, curve) == pytest.approx(50)
    assert queries_to(0.75, queries, curve) == pytest.approx(175)
    assert queries_to(0.81, queries, curve) == math.inf


def _curves(win_rate: np.ndarray) -> Curves:
    queries = np.linspace(0, 1000, win_rate.shape[1])
    columns = dict.fromkeys(("win_rate", "regret", "online_win_rate", "distinct"), win_rate)
    return Curves(queries, np.arange(len(win_rate)), columns)


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
    assert baseline_of("bai_ts+mix, flip 0.1", SETTINGS) == "passive, flip 0.1"
    assert baseline_of(f"bai_ts+mix, {RECIPE}, flip 0.1", SETTINGS) == "passive, flip 0.1"
    assert baseline_of(f"bai_ts+mix, {RECIPE}", SETTINGS) == "passive"
    assert baseline_of("passive", SETTINGS) == "passive"
    assert baseline_of("bai_ts+mix, tuned", SETTINGS) == "passive, tuned"
    assert baseline_of("bai_ts+mix, flip 0.1", ["passive"]) == "passive"


def test_a_control_is_nobodys_baseline():
    for name, settings in SETTINGS.items():
        baseline = SETTINGS[baseline_of(name, SETTINGS)]
        assert baseline.prompts_per_round == 32, name
        assert baseline.policy_replay == 0, name
        assert baseline.labeller == settings.labeller, name


@pytest.mark.parametrize(
    ("method", "control"),
    [
        ("passive", "passive"),
        ("bai_ts", "passive"),
        ("bai_ts+mix", "passive, 22 a round"),
        (f"bai_ts+mix, {RECIPE}", "passive, 16 a round"),
        (f"random+mix, {RECIPE}", "passive, 16 a round"),
        (f"bai_ts+mix, {RECIPE}, replay 1", "passive, 8 a round"),
        (f"bai_ts+mix, {RECIPE}, replay 3", "passive, 4 a round"),
        ("passive, replay 1", "passive, 16 a round"),
        ("bai_ts, replay 3", "passive, 8 a round"),
        ("passive, replay 7", "passive, 4 a round"),
        ("passive, 8 a round", "passive, 8 a round"),
        (f"bai_ts+mix, {RECIPE}, flip 0.1", "passive, 16 a round, flip 0.1"),
        (f"bai_ts+mix, gamma 0.5, {EARLY}, tuned", "passive, 16 a round, tuned"),
        ("bai_ts, replay 3, tuned", None),
        ("passive, replay 3, flip 0.1", None),
        (f"bai_ts+mix, {RECIPE}, flip 0.2", None),
        ("bai_ts+mix, gamma 0.3", None),
        ("bai_ts+mix, lr 0.001", None),
        ("reward_model_only", None),
    ],
)
def test_a_methods_control_makes_as_many_updates_a_label(method: str, control: str | None):
    assert control_of(method, SETTINGS) == control
    if control is not None:
        ours, theirs = (labels_per_update(SETTINGS[name]) for name in (method, control))
        assert ours == pytest.approx(theirs, rel=0.02)
        assert control_of(method, ["passive, lr 0.001"]) is None  # it was not run


@pytest.mark.parametrize(
    ("method", "control"),
    [
        (f"bai_ts+mix, {RECIPE}", "passive, replay 1"),
        ("passive, 8 a round", "passive, replay 3"),
        (f"bai_ts+mix, {RECIPE}, replay 1", "passive, replay 3"),
        (f"bai_ts+mix, {RECIPE}, replay 3", "passive, replay 7"),
        ("passive, replay 7", "passive, replay 7"),
        (f"bai_ts+mix, gamma 0.2, {EARLY}, tuned", "passive, replay 4, tuned"),
        ("passive", None),
        ("bai_ts+mix", None),
        ("bai_ts+mix, gamma 0.3", None),
        ("passive, 16 a round, flip 0.1", None),
        ("reward_model_only", None),
    ],
)
def test_a_methods_replayed_control(method: str, control: str | None):
    assert replayed_control_of(method, SETTINGS) == control


def test_a_ratio_to_the_control_by_hand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studies.bandit.results.NUM_RESAMPLES", 50)
    steps = np.linspace(0, 1, 11)
    speeds = {"passive": 1.0, "passive, 16 a round": 2.0, f"bai_ts+mix, {RECIPE}": 5.0}
    runs = {
        name: _curves(0.5 + (0.4 + 0.01 * np.arange(5)[:, None]) * np.minimum(speed * steps, 1))
        for name, speed in speeds.items()
    }
    # At 950 / 5 queries the method is where passive is at 950 and its control at 475.
    cells = control_cells(f"bai_ts+mix, {RECIPE}", "passive, 16 a round", runs)
    assert cells == ["0.40 [0.40, 0.40]", "passive, 16 a round"]
    assert control_cells("passive", None, runs) == ["-", "-"]
    shown = efficiency_table(runs, runs).splitlines()
    assert "| 0.20 [0.20, 0.20] | 0.40 [0.40, 0.40] | passive, 16 a round |" in shown[-1]
    alone = efficiency_table({f"bai_ts+mix, {RECIPE}": runs[f"bai_ts+mix, {RECIPE}"]}, runs)
    assert alone.splitlines()[-1] == shown[-1]
    del runs["passive, 16 a round"]
    shown = efficiency_table(runs, runs).splitlines()
    assert "| 0.20 [0.20, 0.20] | - | - |" in shown[-1]


def test_a_method_that_never_gets_there_has_no_ratio_to_a_control_that_does_not_either():
    steps = np.linspace(0, 1, 11)
    passive, slow = _curves(0.5 + 0.4 * steps[None]), _curves(0.5 + 0.1 * steps[None])
    assert efficiency(slow, passive, slow).ratio == math.inf
    assert efficiency(passive, passive, slow).ratio == 0


def test_a_column_that_a_file_lacks_is_a_dash():
    curves = _curves(np.array([[0.5, 0.6], [0.5, 0.8]]))
    assert last_cell(curves, "kl", 1) == "-"
    # A standard error of 0.1; Student's t of one degree of freedom is 12.71.
    assert last_cell(curves, "win_rate", 2) == "0.70 [-0.57, 1.97]"
    assert last_cell(curves.only([0]), "win_rate", 2) == "0.60"


def test_names_in_pictures():
    assert label("passive") == "passive (online DPO)"
    assert label("passive, 16 a round") == "passive, 16 a round"
    assert label("bai_ts, replay 3") == "BAI-TS, replay 3"
    assert label(f"bai_ts+mix, {RECIPE}, replay 1") == "BAI-TS + mixing (recipe), replay 1"
    assert label(f"bai_ts+mix, gamma 0.1, {EARLY}") == "BAI-TS, REINFORCE (gamma 0.1)"
    assert label(f"random+mix, {RECIPE}, from 64") == "random + mixing (recipe), from 64"
    assert set(CONTROLLED) <= {*SUITES["main"].methods, *SUITES["early"].methods}


def test_a_run_has_the_rounds_that_its_budget_needs():
    """320 labels in 10 rounds of 32; with gamma 0.1 64 in 2, then 256 of 3.2: 82, and 5% more."""
    assert Simulation(Settings("random", query_budget=320), 0)._last_round == 20
    mixed = Settings("random", query_budget=320, gamma=0.1, warm_up=64)
    assert Simulation(mixed, 0)._last_round == 87


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
    # A file has the columns of its first run.
    append_run(file, "later", 0, [{"new": 1.0} | row])
    later = read_runs(file)["later"]
    assert list(later.columns) == list(curves.columns)
    assert later.columns["win_rate"].tolist() == [[0.25]]


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


def test_rates_are_tried_for_each_method_and_the_best_are_among_them():
    for method, (beta, lr) in BEST_RATES.items():
        tried = list(candidates(method))
        assert len(tried) == len({(s.beta, s.lr) for s in tried}) == len(BETAS) * len(RATES)
        assert (beta, lr) in {(s.beta, s.lr) for s in tried}, method
        tuned = SETTINGS[f"{method}{TUNED_SUFFIX}"]
        assert (tuned.beta, tuned.lr) == (beta, lr)
        assert replace(tuned, beta=0, lr=0) in [replace(s, beta=0, lr=0) for s in tried]


def test_tuned_methods_are_read_at_the_common_rates_target_by_hand(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("studies.bandit.results.NUM_RESAMPLES", 10)
    steps = np.linspace(0, 1, 11)

    def at_speed(speed: float) -> Curves:
        return _curves(0.5 + np.array([[0.4], [0.4]]) * np.minimum(speed * steps, 1))

    # Passive needs 950 queries to its target of 0.88; these 475, 275, 190 and 190, linear between
    # the points of their curves.
    speeds = {"passive": 2, "passive, replay 3": 4, "passive, replay 4": 5, "random, replay 3": 5}
    tuned = {f"{name}{TUNED_SUFFIX}": at_speed(speed) for name, speed in speeds.items()}
    row = tuned_table(tuned, tuned | {"passive": at_speed(1)}).splitlines()[3]
    ratios = " | ".join(f"{r} [{r}, {r}]" for r in ("0.29", "0.58", "1.00", "1.45", "1.45"))
    assert row.startswith(
        f"| passive, replay 3, tuned | 0.1, 0.01 | 275 [275, 275] | {ratios} | 0.820 | 0.900 |"
    )
