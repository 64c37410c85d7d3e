"""Which prompts of a pool are labelled."""

import numpy as np
import pytest
import torch
from exploration_cases import proposals, random_proposals, rngs
from hypothesis import given
from hypothesis import strategies as st

from rllib_sea.exploration.apl import apl
from rllib_sea.exploration.passive import passive
from rllib_sea.exploration.prompt_acquisition import (
    ACQUISITIONS,
    choose_prompts,
    predictive_entropy,
    preference_certainty,
)


def test_predictive_entropy_by_hand() -> None:
    log_probs = torch.tensor([[-1.0, -3.0, -100.0], [-5.0, -7.0, 0.0]])
    case = proposals(torch.zeros(1, 2, 3), log_probs=log_probs)
    torch.testing.assert_close(predictive_entropy(case), torch.tensor([104 / 3, 4.0]))


def test_the_references_samples_say_nothing_about_the_policys_entropy() -> None:
    log_probs = torch.tensor([[-1.0, -3.0, -100.0]])
    case = proposals(
        torch.zeros(1, 1, 3), log_probs=log_probs, from_reference=torch.tensor([False, False, True])
    )
    torch.testing.assert_close(predictive_entropy(case), torch.tensor([2.0]))


def test_predictive_entropy_estimates_the_entropy() -> None:
    """Samples of a known distribution: the estimate is its entropy, up to sampling error."""
    probabilities = np.array([0.5, 0.25, 0.125, 0.125])  # 1.75 bits
    drawn = np.random.default_rng(0).choice(4, size=(1, 20_000), p=probabilities)
    case = proposals(
        torch.zeros(1, 1, 20_000), log_probs=torch.from_numpy(np.log(probabilities[drawn]))
    )
    assert float(predictive_entropy(case)) == pytest.approx(1.75 * np.log(2), abs=0.02)


def test_preference_certainty_by_hand() -> None:
    implicit = torch.tensor([[0.5, -3.0, 2.0], [1.0, 1.0, 0.0]])
    case = proposals(torch.zeros(1, 2, 3), implicit_rewards=implicit)
    largest = preference_certainty(case, apl(case, rngs(2)))
    torch.testing.assert_close(largest, torch.tensor([5.0, 1.0]))
    first_two = preference_certainty(case, passive(case, rngs(2)))
    torch.testing.assert_close(first_two, torch.tensor([3.5, 0.0]))


def test_preference_certainty_without_implicit_rewards_is_an_error() -> None:
    case = proposals(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="implicit rewards"):
        preference_certainty(case, passive(case, rngs(2)))


def test_choose_prompts_by_hand() -> None:
    scores = torch.tensor([1.0, 3.0, 2.0, 3.0, 9.0])
    valid = torch.tensor([True, True, True, True, False])
    assert choose_prompts(scores, valid, 2).tolist() == [1, 3]
    assert choose_prompts(scores, valid, 3).tolist() == [1, 2, 3]
    assert choose_prompts(scores, valid, 5).tolist() == [0, 1, 2, 3, 4]  # invalid ones last
    assert choose_prompts(scores, valid, 4).tolist() == [0, 1, 2, 3]
    assert choose_prompts(scores, valid, 0).tolist() == []
    assert choose_prompts(torch.zeros(4), torch.ones(4, dtype=torch.bool), 2).tolist() == [0, 1]


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12),
    count=st.integers(0, 12),
)
def test_choose_prompts_by_sorting(rows: list[tuple[int, bool]], count: int) -> None:
    scores = torch.tensor([float(score) for score, _ in rows])
    valid = torch.tensor([ok for _, ok in rows])
    ranked = sorted(
        range(len(rows)), key=lambda i: (not rows[i][1], -rows[i][0] if rows[i][1] else 0, i)
    )
    assert choose_prompts(scores, valid, count).tolist() == sorted(ranked[:count])


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_acquisitions_share_a_signature(name: str) -> None:
    acquisition = ACQUISITIONS[name]
    case = random_proposals("apl" if acquisition.needs_implicit_rewards else "passive", 0)
    scores = acquisition.score(case, passive(case, rngs(4)))
    assert scores.shape == (4,)
    assert torch.isfinite(scores).all()


def test_what_acquisitions_need() -> None:
    assert {name: a.needs_implicit_rewards for name, a in ACQUISITIONS.items()} == {
        "certainty": True,
        "entropy": False,
    }
