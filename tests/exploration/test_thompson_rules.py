"""Rules that draw members: by hand, by brute force, by their distribution."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from exploration_cases import proposals, random_proposals, rngs, sigmoid

from rllib_sea.exploration import STRATEGIES, text_identities
from rllib_sea.exploration.bai_ts import bai_ts, logit_variance, preference_variance
from rllib_sea.exploration.drts import drts
from rllib_sea.exploration.ee_ts import ee_ts
from rllib_sea.exploration.passive import passive
from rllib_sea.exploration.random_pair import random_pair


def favourites(*members: int) -> torch.Tensor:
    """(K, 1, 3): each member has reward 1 for one candidate of three, and 0 for the others."""
    return torch.eye(3)[list(members)][:, None]


def test_preference_variance_by_hand() -> None:
    """Two members, three candidates, y = 0.

    Differences r(y) - r(b): member 0 gives (0, 0, ln 3), member 1 gives (0, ln 3, ln 3).
    sigmoid(0) = 1/2 and sigmoid(ln 3) = 3/4, so the probabilities of candidate 1 are
    (1/2, 3/4), whose population variance is 1/64; the others do not vary. The logits of
    candidate 1 are (0, ln 3), with variance (ln 3 / 2)^2.
    """
    log3 = float(np.log(3.0))
    rewards = torch.tensor([[[log3, log3, 0.0]], [[log3, 0.0, 0.0]]])
    first = torch.tensor([0])
    torch.testing.assert_close(
        preference_variance(rewards, first), torch.tensor([[0.0, 1 / 64, 0.0]])
    )
    torch.testing.assert_close(
        logit_variance(rewards, first), torch.tensor([[0.0, log3**2 / 4, 0.0]])
    )


@pytest.mark.parametrize("variance", [preference_variance, logit_variance])
def test_members_that_agree_have_no_variance_whatever_the_rounding(
    variance: Callable[..., torch.Tensor],
) -> None:
    # 30 numbers are no whole number of a CPU's vectors: the last ones are computed otherwise.
    for seed in range(100):
        rewards = torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(seed))
        assert (variance(rewards.repeat(5, 1, 1), torch.tensor([seed % 6])) == 0.0).all()


def test_bai_by_probability_and_by_logit_differ() -> None:
    """Both members like candidate 0 best. Against candidate 1 the logits are (8, 4), against
    candidate 2 they are (0, 1): a larger variance of the logit, but both are near-certain.
    """
    rewards = torch.tensor([[[8.0, 0.0, 8.0]], [[4.0, 0.0, 3.0]]])
    assert bai_ts(proposals(rewards), rngs(1)).second[0] == 2
    assert bai_ts(proposals(rewards), rngs(1), variance="logit").second[0] == 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("variance", ["probability", "logit"])
def test_bai_by_brute_force(seed: int, variance: str) -> None:
    case = random_proposals("bai_ts", seed)
    selection = bai_ts(case, rngs(4, seed), variance=variance)
    for b in np.flatnonzero(selection.valid):
        rewards, texts = case.rewards[:, b].numpy(), case.texts[b].tolist()
        first, second = selection.first[b], selection.second[b]
        assert first == rewards[selection.member[b]].argmax()
        logits = rewards[:, [first]] - rewards
        values = (sigmoid(logits) if variance == "probability" else logits).var(axis=0)
        others = [m for m in range(6) if texts[m] != texts[first]]
        assert values[second] == pytest.approx(max(values[others]), abs=1e-12)
        assert not selection.clash[b]


def test_ee_draws_the_second_uniformly_among_disagreeing_members() -> None:
    """Favourites (0, 0, 1, 2, 2, 2): given first = 0, second is 1 with 1/4 and 2 with 3/4.

    Given first = 0 the next of the five other members likes 0 as well with 1/5: a clash.
    """
    num = 4000
    case = proposals(favourites(0, 0, 1, 2, 2, 2).expand(-1, num, -1))
    selection = ee_ts(case, rngs(num))
    given = selection.first == 0
    assert given.mean() == pytest.approx(2 / 6, abs=0.03)
    assert (selection.second[given] == 1).mean() == pytest.approx(1 / 4, abs=0.04)
    assert (selection.second[given] == 2).mean() == pytest.approx(3 / 4, abs=0.04)
    assert selection.clash[given].mean() == pytest.approx(1 / 5, abs=0.04)


def test_ee_falls_back_to_the_runner_up_by_mean_when_all_members_agree() -> None:
    rewards = torch.tensor([[[3.0, 0.0, 1.0]], [[3.0, 1.5, 1.0]]])  # means 3, 0.75, 1
    selection = ee_ts(proposals(rewards), rngs(1))
    assert (selection.first[0], selection.second[0], selection.clash[0]) == (0, 2, True)


def test_drts_draws_both_responses_independently() -> None:
    """Best candidates (0, 0, 1), worst (1, 2, 2): the two draws are independent.

    First is 0 with 2/3. Given first = 0 the second is 1 with 1/3 and 2 with 2/3. Given first
    = 1, a worst of 1 is drawn with 1/3, a clash, and drawn again until it is 2.
    """
    rewards = torch.tensor([[[1.0, -1.0, 0.0]], [[1.0, 0.0, -1.0]], [[0.0, 1.0, -1.0]]])
    num = 6000
    selection = drts(proposals(rewards.expand(-1, num, -1)), rngs(num))
    given = selection.first == 0
    assert given.mean() == pytest.approx(2 / 3, abs=0.03)
    assert (selection.second[given] == 1).mean() == pytest.approx(1 / 3, abs=0.03)
    assert (selection.second[given] == 2).mean() == pytest.approx(2 / 3, abs=0.03)
    assert not selection.clash[given].any()
    assert (selection.second[~given] == 2).all()
    assert selection.clash[~given].mean() == pytest.approx(1 / 3, abs=0.04)
    assert (given == (selection.member < 2)).all()


def test_drts_falls_back_to_the_worst_other_by_mean() -> None:
    """A member without an opinion takes candidate 0 first, which both like least."""
    rewards = torch.tensor([[[0.0, 0.0, 0.0]], [[-1.0, 2.0, 1.0]]])  # means -0.5, 1, 0.5
    num = 50
    selection = drts(proposals(rewards.expand(-1, num, -1)), rngs(num))
    flat = selection.member == 0
    assert 0 < flat.sum() < num
    assert selection.first[flat].tolist() == [0] * flat.sum()
    assert selection.second[flat].tolist() == [2] * flat.sum()
    assert selection.clash[flat].all()


def test_drts_by_brute_force_gives_a_members_worst() -> None:
    for seed in range(10):
        case = random_proposals("drts", seed)
        selection = drts(case, rngs(4, seed))
        for b in np.flatnonzero(selection.valid):
            rewards, texts = case.rewards[:, b].numpy(), case.texts[b].numpy()
            first, second = selection.first[b], selection.second[b]
            assert first == rewards[selection.member[b]].argmax()
            worst = rewards.argmin(axis=1)
            assert second in worst[texts[worst] != texts[first]]


def test_passive_takes_the_first_two_different_samples() -> None:
    texts = text_identities([["a", "a", "b", "c"], ["a", "b", "a", "a"]])
    selection = passive(proposals(torch.zeros(1, 2, 4), texts), rngs(2))
    assert selection.first.tolist() == [0, 0]
    assert selection.second.tolist() == [2, 1]
    assert selection.clash.tolist() == [True, False]


def test_random_is_uniform_over_ordered_pairs_of_different_texts() -> None:
    """Texts a, a, b, c: 12 ordered pairs less the two of a with a; copies count as the first."""
    num = 6000
    texts = torch.tensor([[0, 0, 2, 3]]).expand(num, -1)
    selection = random_pair(proposals(torch.zeros(1, num, 4), texts), rngs(num))
    counts = np.bincount(4 * selection.first + selection.second, minlength=16).reshape(4, 4)
    expected = torch.tensor([[0, 0, 2, 2], [0, 0, 0, 0], [2, 0, 0, 1], [2, 0, 1, 0]]).numpy()
    assert ((counts > 0) == (expected > 0)).all()
    expected = expected[expected > 0] * num / 10
    assert float(((counts[counts > 0] - expected) ** 2 / expected).sum()) < 20.5  # 99.9%, 5 degrees
    assert not selection.clash.any()


def test_random_does_not_look_at_rewards() -> None:
    case = random_proposals("random", 0)
    other = proposals(-case.rewards, case.texts)
    plain, moved = random_pair(case, rngs(4)), random_pair(other, rngs(4))
    assert plain.first.tolist() == moved.first.tolist()
    assert plain.second.tolist() == moved.second.tolist()


@pytest.mark.parametrize("name", ["bai_ts", "ee_ts", "drts"])
def test_a_drawn_member_likes_the_first_response_best(name: str) -> None:
    case = random_proposals(name, 7, num_prompts=50, num_texts=1000)
    selection = STRATEGIES[name].select(case, rngs(50))
    best = case.rewards.argmax(dim=2).numpy()
    assert selection.first.tolist() == best[selection.member, np.arange(50)].tolist()
