"""Exploration strategies: numbers worked by hand, brute force, properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_sea.exploration import STRATEGIES, bai_ts, ee_ts, passive, text_identities
from rllib_sea.exploration.bai_ts import preference_variance


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def random_case(seed: int, num_members: int = 5, num_prompts: int = 4, num_candidates: int = 6):
    """Rewards and texts where some candidates of a prompt are the same text."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 4, size=(num_prompts, num_candidates))
    texts = text_identities([[f"text {n}" for n in row] for row in numbers])
    by_text = rng.normal(size=(num_members, num_prompts, num_candidates))
    rewards = torch.from_numpy(by_text).gather(
        2, texts.expand(num_members, -1, -1)
    )  # equal texts have equal rewards, as they have equal features
    return rewards, texts


def test_text_identities_number_the_first_occurrence() -> None:
    assert text_identities([["a", "b", "a"], ["c", "c", "c"]]).tolist() == [[0, 1, 0], [0, 0, 0]]


def test_preference_variance_by_hand() -> None:
    """Two members, three candidates, y = 0.

    Differences r(y) - r(b): member 0 gives (0, 0, ln 3), member 1 gives (0, ln 3, ln 3).
    sigmoid(0) = 1/2 and sigmoid(ln 3) = 3/4, so the probabilities of candidate 1 are
    (1/2, 3/4), whose population variance is 1/64; the others do not vary.
    """
    log3 = float(np.log(3.0))
    rewards = torch.tensor([[[log3, log3, 0.0]], [[log3, 0.0, 0.0]]])
    variance = preference_variance(rewards, torch.tensor([0]))
    torch.testing.assert_close(variance, torch.tensor([[0.0, 1 / 64, 0.0]]))


@pytest.mark.parametrize("seed", range(20))
def test_bai_second_maximises_the_variance_by_brute_force(seed: int) -> None:
    rewards, texts = random_case(seed)
    selection = bai_ts(rewards, texts, rngs(4, seed))
    for b in range(4):
        if not selection.valid[b]:
            continue
        member, first = selection.member[b], selection.first[b]
        assert rewards[member, b, first] == rewards[member, b].max()
        best = max(
            np.var([1 / (1 + np.exp(-float(r[b, first] - r[b, m]))) for r in rewards])
            for m in range(6)
            if texts[b, m] != texts[b, first]
        )
        second = selection.second[b]
        got = np.var([1 / (1 + np.exp(-float(r[b, first] - r[b, second]))) for r in rewards])
        assert got == pytest.approx(best, abs=1e-12)


def test_ee_draws_the_second_uniformly_among_disagreeing_members() -> None:
    """Favourites (0, 0, 1, 2, 2, 2): given first = 0, second is 1 with 1/4 and 2 with 3/4."""
    rewards = torch.zeros(6, 1, 3)
    for member, favourite in enumerate([0, 0, 1, 2, 2, 2]):
        rewards[member, 0, favourite] = 1.0
    num = 4000
    selection = ee_ts(rewards.expand(-1, num, -1), torch.arange(3).expand(num, -1), rngs(num))
    seconds = selection.second[selection.first == 0]
    assert (selection.first == 0).mean() == pytest.approx(2 / 6, abs=0.03)
    assert (seconds == 1).mean() == pytest.approx(1 / 4, abs=0.04)
    assert (seconds == 2).mean() == pytest.approx(3 / 4, abs=0.04)


def test_ee_falls_back_to_the_runner_up_by_mean_when_all_members_agree() -> None:
    rewards = torch.tensor([[[3.0, 0.0, 1.0]], [[3.0, 1.5, 1.0]]])  # means 3, 0.75, 1
    selection = ee_ts(rewards, torch.arange(3)[None], rngs(1))
    assert (selection.first[0], selection.second[0]) == (0, 2)


def test_passive_takes_the_first_two_different_samples() -> None:
    texts = text_identities([["a", "a", "b", "c"], ["a", "b", "a", "a"]])
    selection = passive(torch.zeros(1, 2, 4), texts, rngs(2))
    assert selection.first.tolist() == [0, 0]
    assert selection.second.tolist() == [2, 1]
    assert selection.member.tolist() == [-1, -1]


def test_members_are_drawn_uniformly() -> None:
    num, members = 6000, 6
    rewards = torch.zeros(members, num, 2)
    selection = bai_ts(rewards, torch.arange(2).expand(num, -1), rngs(num))
    counts = np.bincount(selection.member, minlength=members)
    chi_square = float(((counts - num / members) ** 2 / (num / members)).sum())
    assert chi_square < 20.5  # 99.9% quantile with 5 degrees of freedom


@pytest.mark.parametrize("name", STRATEGIES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_never_two_equal_texts_and_valid_marks_single_texts(name: str, seed: int) -> None:
    rewards, texts = random_case(seed, num_candidates=3)
    selection = STRATEGIES[name](rewards, texts, rngs(4, seed))
    for b in range(4):
        assert selection.valid[b] == (len(set(texts[b].tolist())) > 1)
        if selection.valid[b]:
            assert texts[b, selection.first[b]] != texts[b, selection.second[b]]


@pytest.mark.parametrize("name", ["bai_ts", "ee_ts"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_permuting_candidates_permutes_the_selection(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = torch.from_numpy(rng.normal(size=(5, 3, 6)))
    texts = torch.arange(6).expand(3, -1)
    order = torch.from_numpy(rng.permutation(6))
    plain = STRATEGIES[name](rewards, texts, rngs(3, seed))
    permuted = STRATEGIES[name](rewards[:, :, order], texts, rngs(3, seed))
    assert order[torch.from_numpy(permuted.first)].tolist() == plain.first.tolist()
    assert order[torch.from_numpy(permuted.second)].tolist() == plain.second.tolist()


@pytest.mark.parametrize("name", ["bai_ts", "ee_ts"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_members_constant_changes_nothing(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = torch.from_numpy(rng.normal(size=(5, 3, 6)))
    # The mean over members decides only where all agree: shift all candidates alike.
    shifted = rewards + torch.from_numpy(rng.normal(size=(5, 1, 1)))
    texts = torch.arange(6).expand(3, -1)
    plain = STRATEGIES[name](rewards, texts, rngs(3, seed))
    moved = STRATEGIES[name](shifted, texts, rngs(3, seed))
    assert plain.first.tolist() == moved.first.tolist()
    assert plain.second.tolist() == moved.second.tolist()
