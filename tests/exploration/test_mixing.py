"""Mixed preference learning: schedules, draws, the ERM's pairs and its labels."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from rllib_sea.exploration import Proposals, Selection
from rllib_sea.exploration.mixing import (
    CUT_WINNER,
    DISAGREEMENT,
    SYNTHETIC_PAIRS,
    MixedPairs,
    agreement,
    best_and_worst,
    draw_synthetic,
    gamma_at,
    mix,
    pessimistic_bounds,
    win_share,
)
from rllib_sea.settings.duels import Duels
from tests.exploration.exploration_cases import proposals

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


EVERY = torch.ones(1, 4, dtype=torch.bool)


def test_best_and_worst_of_another_text() -> None:
    rewards = torch.tensor([[5.0, -1.0, 4.0, 5.0]])
    texts = torch.tensor([[0, 1, 2, 0]])
    best, worst = best_and_worst(rewards, rewards, texts, EVERY)
    assert (best.item(), worst.item()) == (0, 1)
    flat = torch.zeros(1, 4)
    best, worst = best_and_worst(flat, flat, torch.tensor([[0, 0, 2, 2]]), EVERY)
    assert (best.item(), worst.item()) == (0, 2)


def test_the_best_is_one_that_may_win_and_its_copy_too() -> None:
    """Candidates 0 and 2 are one text, of which only the second was finished."""
    rewards = torch.tensor([[5.0, 6.0, 5.0, 1.0]])
    texts = torch.tensor([[0, 1, 0, 3]])
    may_win = torch.tensor([[False, False, True, True]])
    best, worst = best_and_worst(rewards, rewards, texts, may_win)
    assert (best.item(), worst.item()) == (2, 3)
    # Without one that may, all may: the pair is dropped later.
    best, _ = best_and_worst(rewards, rewards, texts, ~EVERY)
    assert best.item() == 1


def selection(num: int) -> Selection:
    """Candidate 0 against candidate 1, for every prompt, drawn by member 5."""
    zeros = np.zeros(num, dtype=np.int64)
    everyone = np.ones(num, dtype=bool)
    return Selection(zeros, zeros + 1, zeros + 5, valid=everyone, clash=~everyone)


def mixed(
    case: Proposals,
    synthetic: list[bool] | None = None,
    audited: list[bool] | None = None,
    **keys: Any,
) -> MixedPairs:
    """The pairs of :func:`selection`, of which all are synthetic unless said."""
    num = case.rewards.shape[1]
    return mix(
        selection(num),
        case,
        Duels(**keys),
        synthetic=[True] * num if synthetic is None else synthetic,
        audited=[False] * num if audited is None else audited,
        rngs=[np.random.default_rng(i) for i in range(num)],
    )


def test_synthetic_labels_are_those_of_the_drawn_member() -> None:
    rewards = torch.randn(7, 40, 3, generator=torch.Generator().manual_seed(0))
    synthetic = [i % 2 == 0 for i in range(40)]
    pairs = mixed(proposals(rewards), synthetic, synthetic_pair="selected_pair")
    assert pairs.first.tolist() == [0] * 40
    assert pairs.second.tolist() == [1] * 40
    for b in range(40):
        if synthetic[b]:
            r = rewards[pairs.member[b], b]
            assert pairs.preference[b] == float(r[0] > r[1])
        else:
            assert pairs.member[b] == 5
    assert len(set(pairs.member[::2].tolist())) > 3


def test_best_vs_worst_replaces_the_synthetic_pairs_only() -> None:
    rewards = torch.tensor([[[0.0, 1.0, 2.0, -1.0]] * 2])  # one member, two prompts
    pairs = mixed(proposals(rewards), [True, False])
    assert (pairs.first[0], pairs.second[0], pairs.preference[0]) == (2, 3, 1.0)
    assert (pairs.first[1], pairs.second[1]) == (0, 1)


# -- Soft labels, agreement, bounds -----------------------------------------------------


LN3 = math.log(3.0)


def test_a_soft_label_by_hand() -> None:
    """Members say 3/4, 3/4 and 1/10: the mean is 8/15, and two of three agree with it."""
    first = torch.tensor([[LN3], [LN3], [-math.log(9.0)]])
    second = torch.zeros(3, 1)
    assert win_share(first, second).item() == pytest.approx((0.75 + 0.75 + 0.1) / 3)
    assert agreement(first, second, torch.tensor([True])).item() == 2 / 3
    case = proposals(torch.cat([first, second], dim=1)[:, None, :])
    pairs = mixed(case, synthetic_pair="selected_pair", synthetic_labels="soft")
    assert pairs.preference.tolist() == pytest.approx([1.6 / 3])
    assert pairs.member.tolist() == [-1]  # nobody was drawn for it


def test_a_soft_label_of_the_members_own_pair_can_go_against_it() -> None:
    """Of three members one has another favourite: its best loses if it is drawn."""
    rewards = torch.tensor([[[2.0, 0.0]], [[2.0, 0.0]], [[0.0, 1.0]]]).expand(3, 30, 2)
    pairs = mixed(proposals(rewards), synthetic_labels="soft")
    share = (2 / (1 + math.exp(-2)) + 1 / (1 + math.exp(1))) / 3
    for first, member, preference in zip(pairs.first, pairs.member, pairs.preference, strict=True):
        assert first == (member == 2)
        assert preference == pytest.approx(share if first == 0 else 1 - share)
    assert set(pairs.member) == {0, 1, 2}


def test_members_of_one_mind_label_hard_and_soft_alike() -> None:
    rewards = torch.randn(1, 40, 5, generator=torch.Generator().manual_seed(1)).expand(6, -1, -1)
    for pair in SYNTHETIC_PAIRS:
        hard, soft = (
            mixed(proposals(rewards), synthetic_pair=pair, synthetic_labels=labels)
            for labels in ("hard", "soft")
        )
        assert hard.first.tolist() == soft.first.tolist()
        assert ((soft.preference >= 0.5) == (hard.preference == 1.0)).all()
        assert ((soft.preference > 0) & (soft.preference < 1)).all()
        strict = mixed(proposals(rewards), synthetic_pair=pair, synthetic_agreement=1.0)
        assert set(strict.dropped) == {None}


def test_pairs_that_too_few_agree_on_are_dropped() -> None:
    """Three of four members prefer the first of prompt 0, all that of 1, none a side of 2."""
    rewards = torch.zeros(4, 3, 2)
    rewards[:3, 0, 0] = rewards[3, 0, 1] = rewards[:, 1, 0] = 1.0
    for share, dropped in ((0.0, "---"), (0.5, "--d"), (0.75, "--d"), (0.76, "d-d"), (1.0, "d-d")):
        pairs = mixed(
            proposals(rewards),
            synthetic_pair="selected_pair",
            synthetic_labels="soft",
            synthetic_agreement=share,
        )
        assert pairs.dropped == tuple(DISAGREEMENT if d == "d" else None for d in dropped)
    # A real pair is asked about, whoever agrees.
    real = mixed(proposals(rewards), [False] * 3, synthetic_agreement=1.0)
    assert real.dropped == (None,) * 3


@pytest.mark.parametrize("share", [0.05, 0.35, 0.7, 0.9, 0.95])
def test_a_share_of_twenty_members_is_met_exactly(share: float) -> None:
    rewards = torch.zeros(20, 2, 2)
    for prompt, num in enumerate((round(20 * share), round(20 * share) - 1)):
        rewards[:num, prompt, 0] = 9.0
    share_that_agrees = agreement(*rewards.unbind(dim=2), torch.tensor([True, True]))
    assert (share_that_agrees >= share).tolist() == [True, False]


def test_bounds_by_hand() -> None:
    """Two members; the best on average is in doubt, and so is the worst.

    Centred rewards (3, 1, 0, -4) and (-1, 3/2, 1, -3/2): means 1, 5/4, 1/2, -11/4, spreads 2, 1/4,
    1/2, 5/4. Lower bounds -1, 1, 0, -4, upper 3, 3/2, 1, -3/2.
    """
    raw = torch.tensor([[[3.0, 1, 0, -4]], [[-1.0, 1.5, 1, -1.5]]])
    low, high = pessimistic_bounds(raw + torch.tensor([[[100.0]], [[-7.0]]]))
    torch.testing.assert_close(low, torch.tensor([[-1.0, 1, 0, -4]]))
    torch.testing.assert_close(high, torch.tensor([[3.0, 1.5, 1, -1.5]]))
    pairs = mixed(proposals(raw), synthetic_pair="bounds")
    assert (pairs.first[0], pairs.second[0], pairs.preference[0]) == (1, 3, 1.0)
    assert pairs.member[0] == -1


def test_bounds_choose_what_wins_on_average_and_with_one_member_its_best_and_worst() -> None:
    rng = torch.Generator().manual_seed(2)
    several, one = (torch.randn(k, 200, 6, generator=rng) for k in (5, 1))
    pairs = mixed(proposals(several), synthetic_pair="bounds", synthetic_labels="hard")
    low, high = pessimistic_bounds(several)
    for b in range(200):
        best, worst = int(low[b].argmax()), int(high[b].argmin())
        assert pairs.first[b] == best
        if best != worst:
            assert (pairs.second[b], pairs.preference[b]) == (worst, 1.0)
        difference = (several[:, b, pairs.first[b]] - several[:, b, pairs.second[b]]).mean()
        assert pairs.preference[b] == (difference >= 0)
    alone = [mixed(proposals(one), synthetic_pair=pair) for pair in ("bounds", "best_vs_worst")]
    assert (alone[0].first == alone[1].first).all()
    assert (alone[0].second == alone[1].second).all()


# -- Responses that were cut ------------------------------------------------------------


def finished_proposals(rewards: torch.Tensor, finished: list[list[bool]]) -> Proposals:
    case = proposals(rewards)
    return Proposals(
        case.rewards,
        case.texts,
        case.log_probs,
        case.implicit_rewards,
        case.from_reference,
        torch.tensor(finished),
    )


def test_a_cut_response_wins_nothing() -> None:
    """Rewards 3, 2, 1 in three prompts: the best is cut; all are; all but the worst are."""
    rewards = torch.tensor([[[3.0, 2.0, 1.0]] * 3])
    finished = [[False, True, True], [False] * 3, [False, False, True]]
    case = finished_proposals(rewards, finished)
    free = mixed(case)
    assert free.first.tolist() == [0] * 3
    assert set(free.dropped) == {None}
    bound = mixed(case, synthetic_cut_wins=False)
    assert (bound.first[0], bound.second[0]) == (1, 2)
    # The one that was finished is the worst of all: the label would go to a cut one.
    assert bound.dropped == (None, CUT_WINNER, CUT_WINNER)
    # The strategy's pair is 0 against 1: its winner is cut.
    selected = mixed(case, synthetic_cut_wins=False, synthetic_pair="selected_pair")
    assert selected.dropped == (CUT_WINNER,) * 3
    assert set(mixed(case, [False] * 3, synthetic_cut_wins=False).dropped) == {None}


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("pair", SYNTHETIC_PAIRS)
def test_no_cut_response_ever_wins_and_a_finished_pair_stays(pair: str, labels: str) -> None:
    rng = torch.Generator().manual_seed(3)
    rewards = torch.randn(4, 300, 3, generator=rng)
    finished = torch.rand(300, 3, generator=rng) < 0.5
    keys = {"synthetic_pair": pair, "synthetic_labels": labels}
    case = finished_proposals(rewards, finished.tolist())
    pairs, free = mixed(case, synthetic_cut_wins=False, **keys), mixed(case, **keys)
    winner = np.where(pairs.preference >= 0.5, pairs.first, pairs.second)
    lost = 0
    for b in range(300):
        assert (pairs.dropped[b] is None) == bool(finished[b, winner[b]])
        lost += pairs.dropped[b] is not None
        if finished[b].all():
            assert (pairs.first[b], pairs.preference[b]) == (free.first[b], free.preference[b])
    assert 20 < lost < 200


# -- Audited pairs ----------------------------------------------------------------------


def test_an_audited_pair_is_the_erms_unless_it_would_drop_it() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0, -1.0], [0.0, 1.0, -2.0, 3.0]])[:, None].repeat(1, 4, 1)
    rewards[1, :2] = rewards[0, :2]  # of one mind about the first two prompts
    audited = [True, False, True, True]
    pairs = mixed(proposals(rewards), [False, False, False, True], audited, synthetic_agreement=1.0)
    assert pairs.audited.tolist() == [True, False, False, False]
    assert (pairs.first[0], pairs.second[0]) == (2, 3)
    # The strategy's, with the member that it drew.
    assert (pairs.first[1:3] == 0).all()
    assert pairs.member[1:3].tolist() == [5, 5]
    assert pairs.dropped == (None, None, None, DISAGREEMENT)
