"""The direct losses: numbers by hand, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch

from rllib_sea.preference_learning.losses import LOSSES, PairLogProbs, check_loss
from text_duel.errors import ConfigError


def logps(margins: list[float], lengths: tuple[int, int] = (1, 1)) -> PairLogProbs:
    """Pairs with given margins, all of them in the chosen response."""
    h = torch.tensor(margins, dtype=torch.float64)
    ones = torch.ones(len(h), dtype=torch.int64)
    return PairLogProbs(
        chosen=h - 5.0,
        rejected=torch.full_like(h, -7.0),
        reference_chosen=torch.full_like(h, -5.0),
        reference_rejected=torch.full_like(h, -7.0),
        chosen_lengths=lengths[0] * ones,
        rejected_lengths=lengths[1] * ones,
    )


def losses(name: str, margins: list[float], beta: float) -> list[float]:
    return LOSSES[name](logps(margins), beta).tolist()


def test_margin_by_hand() -> None:
    """h = (-3 - -5) - (-9 - -8) = 3; per token: 2 / 4 - (-1) / 2 = 1."""
    one = torch.ones(1)
    pair = PairLogProbs(
        chosen=-3 * one,
        rejected=-9 * one,
        reference_chosen=-5 * one,
        reference_rejected=-8 * one,
        chosen_lengths=torch.tensor([4]),
        rejected_lengths=torch.tensor([2]),
    )
    assert pair.margin().tolist() == [3.0]
    assert pair.mean_margin().tolist() == [1.0]
    assert LOSSES["ipo"](pair, 0.25).item() == pytest.approx(1.0)  # (3 - 2)^2
    assert LOSSES["ipo_mean"](pair, 0.25).item() == pytest.approx(1.0)  # (1 - 2)^2
    assert LOSSES["ipo_mean"](pair, 0.5).item() == pytest.approx(0.0)  # (1 - 1)^2


def test_dpo_by_hand() -> None:
    """-log sigmoid(0) = ln 2; 0.1 h = ln 3: ln(1 + 1/3); 0.1 h = -ln 3: ln(1 + 3)."""
    h = 10 * math.log(3)
    assert losses("dpo", [0.0, h, -h], 0.1) == pytest.approx(
        [math.log(2), math.log(4 / 3), math.log(4)]
    )


def test_ipo_by_hand() -> None:
    """1 / (2 * 0.5) = 1: (0 - 1)^2 = 1, (3 - 1)^2 = 4, (-1 - 1)^2 = 4."""
    assert losses("ipo", [0.0, 3.0, -1.0], 0.5) == pytest.approx([1.0, 4.0, 4.0])


def test_ipo_mean_divides_each_response_by_its_own_length() -> None:
    """The same sums over twice the tokens: h / 2. (6 / 3 - 1)^2 = 1; (6 / 6 - 1)^2 = 0."""
    assert LOSSES["ipo_mean"](logps([6.0], (3, 5)), 0.5).item() == pytest.approx(1.0)
    assert LOSSES["ipo_mean"](logps([6.0], (6, 5)), 0.5).item() == pytest.approx(0.0)


def test_slic_by_hand() -> None:
    """beta 0.2: 1 - 0 = 1; 1 - 0.2 * 4 = 0.2; nothing from h = 5 on; 1 + 0.2 * 5 = 2."""
    assert losses("slic", [0.0, 4.0, 5.0, 50.0, -5.0], 0.2) == pytest.approx([1, 0.2, 0, 0, 2])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn(4, 6, dtype=torch.float64, generator=rng)
    lengths = torch.tensor([1, 2, 3, 4, 5, 6])

    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](
            PairLogProbs(chosen, rejected, inputs[2], inputs[3], lengths, lengths.flip(0)), 0.3
        )

    chosen, rejected = (inputs[i].clone().requires_grad_() for i in (0, 1))
    assert torch.autograd.gradcheck(loss, (chosen, rejected))


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_margins_stay_finite(name: str) -> None:
    pairs = logps([1e6, -1e6, 1e-30, -1e-30])
    chosen = pairs.chosen.float().requires_grad_()
    result = LOSSES[name](
        PairLogProbs(
            chosen,
            *(
                tensor.float()
                for tensor in (pairs.rejected, pairs.reference_chosen, pairs.reference_rejected)
            ),
            pairs.chosen_lengths,
            pairs.rejected_lengths,
        ),
        0.1,
    )
    result.sum().backward()
    assert result.isfinite().all()
    assert chosen.grad is not None
    assert chosen.grad.isfinite().all()


def test_dpo_at_extreme_margins_is_linear() -> None:
    assert losses("dpo", [1e6, -1e6], 0.1) == [0.0, 1e5]


def test_an_unknown_name_lists_the_names() -> None:
    for name in LOSSES:
        check_loss(name)
    with pytest.raises(ConfigError) as wrong:
        check_loss("ipo_maen")
    assert str(wrong.value) == (
        "loss: 'ipo_maen' is none of dpo, ipo, ipo_mean, slic (did you mean 'ipo_mean'?)"
    )
