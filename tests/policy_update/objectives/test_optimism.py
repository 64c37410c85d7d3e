"""XPO's and SELM's terms: numbers by hand, gradients, and what they are refused with."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.objectives.losses import LOSSES, PairLogProbs
from rllib_sea.policy_update.objectives.optimism import (
    OPTIMISM,
    check_optimism,
    check_pairs,
    selm,
    xpo,
)
from rllib_sea.policy_update.run import PolicyTrainRun
from tests.helpers.preference_pairs import random_pairs
from text_duel.errors import ConfigError

FROM_REFERENCE = torch.tensor([True, False])  # the chosen response, then the rejected one


def two_pairs() -> PairLogProbs:
    """-3 and -9 against -5 and -8 under the reference, twice."""
    pair = torch.tensor([[-3.0, -9.0, -5.0, -8.0]] * 2, dtype=torch.float64)
    return PairLogProbs(*pair.T, torch.tensor([4, 4]), torch.tensor([2, 2]))


def test_xpo_by_hand() -> None:
    """Summed, not averaged: -3 for the chosen response, -9 for the rejected one."""
    assert xpo(two_pairs(), FROM_REFERENCE, 0.1).tolist() == [-3.0, -9.0]


def test_selm_by_hand() -> None:
    """0.1 * (-3 - -5) = 0.2; 0.1 * (-9 - -8) = -0.1."""
    assert selm(two_pairs(), FROM_REFERENCE, 0.1).tolist() == pytest.approx([0.2, -0.1])


@pytest.mark.parametrize("name", OPTIMISM)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn(4, 2, dtype=torch.float64, generator=rng)
    ones = torch.ones(2, dtype=torch.int64)

    def term(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        pairs = PairLogProbs(chosen, rejected, inputs[2], inputs[3], ones, ones)
        return OPTIMISM[name](pairs, FROM_REFERENCE, 0.3)

    chosen, rejected = (inputs[i].clone().requires_grad_() for i in (0, 1))
    assert torch.autograd.gradcheck(term, (chosen, rejected))


def test_selms_gradient_is_xpos_times_beta() -> None:
    gradients = []
    for term in (xpo, selm):
        pairs = two_pairs()
        chosen, rejected = (t.clone().requires_grad_() for t in (pairs.chosen, pairs.rejected))
        pairs = dataclasses.replace(pairs, chosen=chosen, rejected=rejected)
        term(pairs, FROM_REFERENCE, 0.1).sum().backward()
        gradients.append(torch.stack([chosen.grad, rejected.grad]))
    # Pushed down: only the response from the reference policy.
    assert gradients[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert torch.equal(gradients[1], 0.1 * gradients[0])


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "dpo"])
@pytest.mark.parametrize("name", OPTIMISM)
def test_other_losses_than_dpo_are_refused(name: str, loss: str) -> None:
    check_optimism(name, "dpo")
    check_optimism(None, loss)
    for check in (
        lambda: check_optimism(name, loss),
        PolicyTrainConfig(optimism=name, loss=loss).validate,
    ):
        with pytest.raises(ConfigError) as wrong:
            check()
        assert str(wrong.value) == (
            f"optimism, loss: {name!r} is defined for the loss 'dpo' only, not {loss!r}"
        )


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(ConfigError) as wrong:
        check_optimism("xop", "dpo")
    assert str(wrong.value) == "optimism: 'xop' is none of selm, xpo (did you mean 'xpo'?)"


@pytest.mark.parametrize("alpha", [0.0, -1e-5, float("nan"), "5e-6"])
def test_a_wrong_alpha_is_refused(alpha: object) -> None:
    with pytest.raises(ConfigError, match="optimism_alpha"):
        PolicyTrainConfig(optimism="xpo", optimism_alpha=alpha).validate()


@pytest.mark.parametrize("name", OPTIMISM)
def test_pairs_that_do_not_say_what_is_from_the_reference_are_refused(name: str) -> None:
    pairs = random_pairs(3, seed=1)
    check_pairs(name, pairs)
    unknown = [*pairs[:2], dataclasses.replace(pairs[2], from_reference=None)]
    check_pairs(None, unknown)
    with pytest.raises(ValueError, match="prompt '2'"):
        check_pairs(name, unknown)
    # Before a worker gets it: this run was not even started.
    run = PolicyTrainRun(PolicyTrainConfig(optimism=name))
    with pytest.raises(ValueError, match=f"optimism '{name}' needs a pair of which one"):
        run.update(unknown)
    assert run.version == 0
