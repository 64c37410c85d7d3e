"""What holds for every exploration strategy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from exploration_cases import legal_pairs, permuted, proposals, random_proposals, rngs
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_sea.exploration import STRATEGIES, Proposals, Selection, text_identities
from text_duel.errors import ConfigError

# Which candidate stands first is a part of these rules, or of their draws.
POSITIONAL = {"passive", "random", "xpo"}
# Their pair has no order, so the lower index stands first.
UNORDERED = {"apl", "infomax", "uncertainty"}


def select(name: str, case: Proposals, seed: int = 0, **options: object) -> Selection:
    return STRATEGIES[name].select(case, rngs(case.texts.shape[0], seed), **options)


def pairs(selection: Selection) -> list[tuple[int, int]]:
    return list(zip(selection.first.tolist(), selection.second.tolist(), strict=True))


def test_text_identities_number_the_first_occurrence() -> None:
    assert text_identities([["a", "b", "a"], ["c", "c", "c"]]).tolist() == [[0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", STRATEGIES)
@given(seed=st.integers(0, 10_000), num_members=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_only_legal_pairs_and_valid_where_there_is_one(
    name: str, seed: int, num_members: int
) -> None:
    case = random_proposals(name, seed, num_members=num_members, num_candidates=3)
    selection = select(name, case, seed)
    for b, pair in enumerate(pairs(selection)):
        legal = legal_pairs(name, case, b)
        assert selection.valid[b] == bool(legal)
        if legal:
            assert pair in legal


@pytest.mark.parametrize("name", STRATEGIES)
def test_shapes_and_types(name: str) -> None:
    selection = select(name, random_proposals(name, 0))
    for field in ("first", "second", "member"):
        assert getattr(selection, field).shape == (4,)
        assert getattr(selection, field).dtype == np.int64
    assert selection.valid.dtype == bool
    assert selection.clash.dtype == bool
    assert selection.clash.shape == (4,)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_generators_give_the_same_selection_and_each_prompt_has_its_own(
    name: str,
) -> None:
    case = random_proposals(name, 3, num_prompts=8)
    whole = select(name, case)
    assert pairs(whole) == pairs(select(name, case))
    for b in range(8):
        alone = replace(
            case,
            rewards=case.rewards[:, b : b + 1],
            texts=case.texts[b : b + 1],
            implicit_rewards=None
            if case.implicit_rewards is None
            else case.implicit_rewards[b : b + 1],
        )
        assert pairs(STRATEGIES[name].select(alone, [rngs(8)[b]])) == [pairs(whole)[b]]


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"random"}))
@pytest.mark.parametrize("num_members", [1, 3])
def test_equal_rewards_give_the_first_candidate_of_another_text(
    name: str, num_members: int
) -> None:
    """Nothing tells the candidates apart, so the lowest indices stand."""
    strategy = STRATEGIES[name]
    case = proposals(
        torch.full((num_members, 2, 5), 0.1),
        text_identities([["a", "a", "b", "c", "a"], ["a", "b", "a", "c", "d"]]),
        implicit_rewards=torch.zeros(2, 5) if strategy.needs_implicit_rewards else None,
        from_reference=torch.arange(5) >= 2 if strategy.reference_candidates else None,
    )
    selection = select(name, case)
    assert selection.first.tolist() == [0, 0]
    assert selection.second.tolist() == ([2, 3] if name == "xpo" else [2, 1])
    # A clash, but where the rule names its second response by its place, or bars the first's text.
    expected = {"passive": [True, False], "xpo": [False, True], "maxmin_lcb": [False, False]}
    assert selection.clash.tolist() == expected.get(name, [True, True])


@pytest.mark.parametrize("name", ["infomax", "uncertainty"])
def test_one_member_has_no_variance(name: str) -> None:
    case = random_proposals(name, 1, num_members=1, num_texts=3)
    selection = select(name, case)
    assert selection.valid.all()
    for b in range(4):
        texts = case.texts[b].tolist()
        other = next(i for i, text in enumerate(texts) if text != texts[0])
        assert pairs(selection)[b] == (0, other)
    assert selection.clash.all()


def test_one_member_with_bai_gives_its_favourite_and_the_first_other_text() -> None:
    rewards = torch.tensor([[[0.0, 2.0, 2.0, 1.0], [3.0, 3.0, 0.0, 1.0]]])
    texts = torch.tensor([[0, 1, 1, 3], [0, 0, 2, 3]])
    assert pairs(select("bai_ts", proposals(rewards, texts))) == [(1, 0), (0, 2)]


@pytest.mark.parametrize("name", ["drts", "delta_ucb"])
def test_one_member_with_a_gap_rule_gives_its_best_and_worst(name: str) -> None:
    rewards = torch.tensor([[[0.0, 2.0, -1.0, 1.0]]])
    assert pairs(select(name, proposals(rewards))) == [(1, 2)]


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - POSITIONAL))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_permuting_candidates_permutes_the_selection(name: str, seed: int) -> None:
    case = replace(
        random_proposals(name, seed),
        rewards=torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 4, 6))),
        texts=torch.arange(6).expand(4, -1),
    )
    order = torch.from_numpy(np.random.default_rng(seed + 1).permutation(6))
    plain, moved = select(name, case, seed), select(name, permuted(case, order), seed)
    back = [(int(order[i]), int(order[j])) for i, j in pairs(moved)]
    if name in UNORDERED:
        assert [set(pair) for pair in back] == [set(pair) for pair in pairs(plain)]
        assert all(i < j for i, j in pairs(moved))
    else:
        assert back == pairs(plain)
    assert moved.clash.tolist() == plain.clash.tolist()


@pytest.mark.parametrize("name", STRATEGIES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_members_constant_changes_nothing(name: str, seed: int) -> None:
    """A Bradley-Terry reward has no zero: each member and prompt may have its own.

    Texts are compared, not indices: the added constants' rounding may break ties between copies.
    """
    case = random_proposals(name, seed)
    constants = torch.from_numpy(np.random.default_rng(seed).normal(scale=10, size=(5, 4, 1)))
    plain = select(name, case, seed)
    moved = select(name, replace(case, rewards=case.rewards + constants), seed)
    assert moved.valid.tolist() == plain.valid.tolist()
    assert moved.member.tolist() == plain.member.tolist()
    for b in np.flatnonzero(plain.valid):
        texts = case.texts[b].tolist()
        duels = [[texts[i] for i in pairs(selection)[b]] for selection in (plain, moved)]
        if name in UNORDERED:
            duels = [sorted(duel) for duel in duels]
        assert duels[0] == duels[1]


def test_members_are_drawn_uniformly() -> None:
    num, members = 6000, 6
    for name in ("bai_ts", "ee_ts", "drts"):
        selection = select(name, proposals(torch.zeros(members, num, 2)))
        counts = np.bincount(selection.member, minlength=members)
        chi_square = float(((counts - num / members) ** 2 / (num / members)).sum())
        assert chi_square < 20.5  # 99.9% quantile with 5 degrees of freedom


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"bai_ts", "ee_ts", "drts"}))
def test_other_strategies_draw_no_member(name: str) -> None:
    assert select(name, random_proposals(name, 0)).member.tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bai_ts", {"variance": "logits"}, "strategy_config: variance: 'logits' is none of"),
        ("delta_ucb", {"confidence": -1}, "strategy_config: confidence: -1 is outside"),
        ("maxmin_lcb", {"confidence": "1"}, "strategy_config: confidence: '1' is not a number"),
        (
            "delta_ucb",
            {"confidence": float("nan")},
            "strategy_config: confidence: nan is outside",
        ),
    ],
)
def test_a_bad_option_is_one_clear_line(name: str, options: dict, message: str) -> None:
    check = STRATEGIES[name].check
    assert check is not None
    check()
    with pytest.raises(ConfigError, match=message):
        check(**options)


def test_what_strategies_need() -> None:
    needs = {name for name, strategy in STRATEGIES.items() if strategy.needs_implicit_rewards}
    reference = {name for name, strategy in STRATEGIES.items() if strategy.reference_candidates}
    assert needs == {"apl"}
    assert reference == {"xpo"}
    for name, strategy in STRATEGIES.items():
        assert strategy.losses == (("dpo",) if name in needs | reference else None)
