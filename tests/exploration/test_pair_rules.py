"""Rules without draws that look at all pairs: by hand and by brute force."""

import numpy as np
import pytest
import torch
from exploration_cases import (
    legal_pairs,
    maxmin_lcb_by_loops,
    proposals,
    random_proposals,
    rngs,
    value_of_pair,
)

from rllib_sea.exploration import STRATEGIES, Selection
from rllib_sea.exploration.apl import apl
from rllib_sea.exploration.delta_ucb import delta_ucb
from rllib_sea.exploration.infomax import infomax
from rllib_sea.exploration.maxmin_lcb import maxmin_lcb
from rllib_sea.exploration.uncertainty import uncertainty
from rllib_sea.exploration.xpo import xpo

PAIR_RULES = ["apl", "delta_ucb", "infomax", "uncertainty"]


def row(selection: Selection, b: int = 0) -> tuple[int, int, bool]:
    return int(selection.first[b]), int(selection.second[b]), bool(selection.clash[b])


@pytest.mark.parametrize("name", PAIR_RULES)
@pytest.mark.parametrize("seed", range(15))
def test_pair_rules_by_brute_force(name: str, seed: int) -> None:
    case = random_proposals(name, seed)
    selection = STRATEGIES[name].select(case, rngs(4))
    for b in np.flatnonzero(selection.valid):
        first, second, clash = row(selection, b)
        legal = max(value_of_pair(name, case, b, i, j) for i, j in legal_pairs(name, case, b))
        free = max(value_of_pair(name, case, b, i, j) for i in range(6) for j in range(6))
        chosen = value_of_pair(name, case, b, first, second)
        assert chosen == pytest.approx(legal, abs=1e-12)
        assert clash == (free > legal + 1e-12)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, 3.0])
def test_maxmin_lcb_by_brute_force(seed: int, confidence: float) -> None:
    case = random_proposals("maxmin_lcb", seed)
    selection = maxmin_lcb(case, rngs(4), confidence=confidence)
    texts = case.texts
    for b in np.flatnonzero(selection.valid):
        expected = maxmin_lcb_by_loops(case, b, confidence)
        # Copies of a text have equal bounds up to rounding: compare texts.
        assert texts[b, selection.first[b]] == texts[b, expected[0]]
        assert texts[b, selection.second[b]] == texts[b, expected[1]]
        assert selection.clash[b] == expected[2]


def test_uncertainty_and_infomax_by_hand() -> None:
    """Two members. Logits: pair (0, 1) gives (0, 2), (0, 2) gives (6, 9), (1, 2) gives (6, 7).

    The variances of the logit are 1, 2.25 and 0.25. Of the probability they are that of
    (0.5, 0.88) and next to nothing: everyone is sure that candidate 2 loses.
    """
    case = proposals(torch.tensor([[[6.0, 6.0, 0.0]], [[9.0, 7.0, 0.0]]]))
    assert row(uncertainty(case, rngs(1))) == (0, 2, False)
    assert row(infomax(case, rngs(1))) == (0, 1, False)


def test_ties_go_to_the_lowest_pair() -> None:
    """The members swap the rewards of 1 and 3, and of 2 and 4: four pairs tie."""
    case = proposals(torch.tensor([[[0.0, 1.0, 1.0, -1.0, -1.0]], [[0.0, -1.0, -1.0, 1.0, 1.0]]]))
    assert row(uncertainty(case, rngs(1))) == (1, 3, False)
    assert row(infomax(case, rngs(1))) == (1, 3, False)


def test_delta_ucb_by_hand() -> None:
    """Centred rewards are (3, 0, -3), (1, 0, -1): means (2, 0, -2), spreads (1, 0, 1).

    At b = 1 the best upper bound is 3, of candidate 0, the least lower one -3, of candidate 2.
    """
    case = proposals(torch.tensor([[[3.0, 0.0, -3.0]], [[11.0, 10.0, 9.0]]]))
    assert row(delta_ucb(case, rngs(1))) == (0, 2, False)


def test_delta_ucb_confidence_trades_gap_for_spread() -> None:
    """Means (1, 0, 0, -1), spreads (0, 2, 2, 0): b = 0 takes the gap, b = 1 the spread.

    Candidates 1 and 2 go opposite ways, so their pair (1, 2) has gap 4 at b = 1, as has each
    of them with itself: the lowest such pair is (1, 1), a clash.
    """
    case = proposals(torch.tensor([[[1.0, 2.0, -2.0, -1.0]], [[1.0, -2.0, 2.0, -1.0]]]))
    assert row(delta_ucb(case, rngs(1), confidence=0.0)) == (0, 3, False)
    assert row(delta_ucb(case, rngs(1), confidence=1.0)) == (1, 2, True)


def test_delta_ucb_is_not_misled_by_a_members_zero() -> None:
    """Without centring, the constants 0 and 100 would give every candidate a spread of 50."""
    rewards = torch.tensor([[[2.0, 0.0, 0.1, -2.1]], [[102.0, 100.0, 100.1, 97.9]]])
    assert row(delta_ucb(proposals(rewards), rngs(1))) == (0, 3, False)


def test_maxmin_lcb_by_hand() -> None:
    """Differences have mean +- spread (0, 1): 1 +- 2, (0, 2): 4 +- 1, (1, 2): 3 +- 1.

    Candidate 2 surely loses to both (UCB -3 and -2) and leaves. LCB(0, 1) = -1, LCB(1, 0) = -3:
    candidate 0 leads, and 1 is its only rival.
    """
    case = proposals(torch.tensor([[[3.0, 0.0, -2.0]], [[5.0, 6.0, 2.0]]]))
    assert row(maxmin_lcb(case, rngs(1))) == (0, 1, False)


def test_maxmin_lcb_with_one_survivor_meets_its_strongest_rival() -> None:
    """All agree that candidate 1 wins; of the others, 2 comes closest."""
    case = proposals(torch.tensor([[[0.0, 5.0, 1.0]], [[1.0, 5.0, 2.0]]]))
    assert row(maxmin_lcb(case, rngs(1))) == (1, 2, True)


def test_maxmin_lcb_with_one_surviving_text_meets_another() -> None:
    """Candidates 0 and 1 survive, but are one text: no duel among themselves."""
    case = proposals(torch.tensor([[[5.0, 5.0, 0.0, 1.0]]]), torch.tensor([[0, 0, 2, 3]]))
    assert row(maxmin_lcb(case, rngs(1))) == (0, 3, True)


def test_apl_by_hand() -> None:
    implicit = torch.tensor([[0.5, -3.0, 2.0, 1.9], [0.0, 0.0, 0.0, 0.0]])
    case = proposals(torch.zeros(1, 2, 4), implicit_rewards=implicit)
    selection = apl(case, rngs(2))
    assert row(selection, 0) == (1, 2, False)
    assert row(selection, 1) == (0, 1, True)


def test_apl_clash_where_one_text_was_sampled_as_different_tokens() -> None:
    """Candidates 0 and 1 have the largest margin, and one text: the next pair is taken."""
    implicit = torch.tensor([[-3.0, 4.0, 2.0]])
    case = proposals(torch.zeros(1, 1, 3), torch.tensor([[0, 0, 2]]), implicit_rewards=implicit)
    assert row(apl(case, rngs(1))) == (0, 2, True)


def test_apl_without_implicit_rewards_is_an_error() -> None:
    with pytest.raises(ValueError, match="implicit rewards"):
        apl(proposals(torch.zeros(1, 1, 3)), rngs(1))


def test_xpo_pairs_the_policy_with_the_reference() -> None:
    """Candidates 0 and 1 are the policy's, 2 to 4 the reference's."""
    texts = torch.tensor(
        [
            [0, 1, 2, 3, 4],  # the first of each
            [0, 1, 0, 3, 4],  # the reference's first is the policy's: a clash
            [0, 1, 0, 0, 0],  # the reference has no other text: no duel, though (1, 2) differ
            [0, 0, 0, 0, 4],
        ]
    )
    case = proposals(torch.zeros(1, 4, 5), texts, from_reference=torch.arange(5) >= 2)
    selection = xpo(case, rngs(4))
    assert selection.valid.tolist() == [True, True, False, True]
    assert [row(selection, b) for b in (0, 1, 3)] == [(0, 2, False), (0, 3, True), (0, 4, True)]


@pytest.mark.parametrize("reference", [True, False])
def test_xpo_needs_both_policies(reference: bool) -> None:
    case = proposals(torch.zeros(1, 1, 3), from_reference=torch.full((3,), reference))
    with pytest.raises(ValueError, match="of the policy and of the reference"):
        xpo(case, rngs(1))
