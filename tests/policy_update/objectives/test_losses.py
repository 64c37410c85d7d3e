"""The direct losses: numbers by hand, gradients, extremes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.objectives.losses import (
    LOSSES,
    PairLogProbs,
    cdpo,
    check_loss,
    ipo,
    ipo_mean,
    rdpo,
    simpo,
)
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


def losses(name: str, margins: list[float], beta: float, **options: Any) -> list[float]:
    return LOSSES[name].function(logps(margins), beta, **options).tolist()


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
    assert ipo(pair, 0.25).item() == pytest.approx(1.0)  # (3 - 2)^2
    assert ipo_mean(pair, 0.25).item() == pytest.approx(1.0)  # (1 - 2)^2
    assert ipo_mean(pair, 0.5).item() == pytest.approx(0.0)  # (1 - 1)^2


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
    assert ipo_mean(logps([6.0], (3, 5)), 0.5).item() == pytest.approx(1.0)
    assert ipo_mean(logps([6.0], (6, 5)), 0.5).item() == pytest.approx(0.0)


def test_slic_by_hand() -> None:
    """beta 0.2: 1 - 0 = 1; 1 - 0.2 * 4 = 0.2; nothing from h = 5 on; 1 + 0.2 * 5 = 2."""
    assert losses("slic", [0.0, 4.0, 5.0, 50.0, -5.0], 0.2) == pytest.approx([1, 0.2, 0, 0, 2])


def test_simpo_by_hand() -> None:
    """-4 over 4 tokens against -6 over 3: -1 - -2 = 1 nat a token; with beta 2 and a ratio of
    0.5, so gamma 1: 2 * -1 - 2 * -2 - 1 = 1. The reference does not matter."""
    pair = PairLogProbs(
        chosen=torch.tensor([-4.0]),
        rejected=torch.tensor([-6.0]),
        reference_chosen=torch.tensor([math.nan]),
        reference_rejected=torch.tensor([math.nan]),
        chosen_lengths=torch.tensor([4]),
        rejected_lengths=torch.tensor([3]),
    )
    assert simpo(pair, 2.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert simpo(pair, 2.0, margin_ratio=1.0).item() == pytest.approx(math.log(2))
    assert simpo(pair, 2.0, margin_ratio=0.0).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_cdpo_by_hand() -> None:
    """sigmoid(ln 3) = 3/4: 3/4 ln(4/3) + 1/4 ln 4 at 0.1 h = ln 3, where e is 1/4."""
    h = 10 * math.log(3)
    assert losses("cdpo", [h, -h, 0.0], 0.1, label_smoothing=0.25) == pytest.approx(
        [
            0.75 * math.log(4 / 3) + 0.25 * math.log(4),
            0.75 * math.log(4) + 0.25 * math.log(4 / 3),
            math.log(2),
        ]
    )


def test_cdpo_is_least_at_a_finite_margin() -> None:
    """log(0.75 / 0.25) = ln 3."""
    pairs = logps([10 * math.log(3)])
    pairs.chosen.requires_grad_()
    cdpo(pairs, 0.1, label_smoothing=0.25).sum().backward()
    assert pairs.chosen.grad is not None
    assert pairs.chosen.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_rdpo_by_hand() -> None:
    """At 0.1 h = ln 3 and e = 1/4: [3/4 ln(4/3) - 1/4 ln 4] / (1/2)."""
    h = 10 * math.log(3)
    assert losses("rdpo", [h, -h, 0.0], 0.1, label_smoothing=0.25) == pytest.approx(
        [
            1.5 * math.log(4 / 3) - 0.5 * math.log(4),
            1.5 * math.log(4) - 0.5 * math.log(4 / 3),
            math.log(2),
        ]
    )


def test_rdpo_is_unbiased_under_flipped_labels() -> None:
    margins = [-30.0, -3.0, 0.0, 0.5, 20.0]
    kept = losses("rdpo", margins, 0.3, label_smoothing=0.2)
    flipped = losses("rdpo", [-h for h in margins], 0.3, label_smoothing=0.2)
    mean = [0.8 * a + 0.2 * b for a, b in zip(kept, flipped, strict=True)]
    assert mean == pytest.approx(losses("dpo", margins, 0.3), abs=1e-12)


@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
def test_without_smoothing_it_is_dpo(name: str) -> None:
    margins = [-1e4, -3.0, 0.0, 0.5, 1e4]
    assert losses(name, margins, 0.1, label_smoothing=0.0) == losses("dpo", margins, 0.1)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn(4, 6, dtype=torch.float64, generator=rng)
    lengths = torch.tensor([1, 2, 3, 4, 5, 6])

    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return LOSSES[name].function(
            PairLogProbs(chosen, rejected, inputs[2], inputs[3], lengths, lengths.flip(0)), 0.3
        )

    chosen, rejected = (inputs[i].clone().requires_grad_() for i in (0, 1))
    assert torch.autograd.gradcheck(loss, (chosen, rejected))


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_margins_stay_finite(name: str) -> None:
    pairs = logps([1e6, -1e6, 1e4, -1e4, 1e-30, -1e-30])
    chosen = pairs.chosen.float().requires_grad_()
    result = LOSSES[name].function(
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


@pytest.mark.parametrize("name", LOSSES)
def test_infinite_margins_are_never_nan(name: str) -> None:
    """An impossible response gives the limit of the loss, so that no 0 * inf hides it."""
    inf = math.inf
    limits = {"dpo": [0, inf], "ipo": [inf, inf], "ipo_mean": [inf, inf], "slic": [0, inf]}
    limits |= {"simpo": [0, inf], "cdpo": [inf, inf], "rdpo": [-inf, inf]}
    assert losses(name, [inf, -inf], 0.1) == limits[name]


def test_dpo_at_extreme_margins_is_linear() -> None:
    assert losses("dpo", [1e6, -1e6], 0.1) == [0.0, 1e5]


def test_smoothed_losses_at_extreme_margins_are_linear() -> None:
    """cDPO: slopes e and 1 - e; rDPO: -e / (1 - 2 e) and (1 - e) / (1 - 2 e)."""
    assert losses("cdpo", [1e4, -1e4], 0.1, label_smoothing=0.25) == [250.0, 750.0]
    assert losses("rdpo", [1e4, -1e4], 0.1, label_smoothing=0.25) == [-500.0, 1500.0]
    assert torch.equal(rdpo(logps([2.0]), 0.1), rdpo(logps([2.0]), 0.1, label_smoothing=0.1))


def test_an_unknown_name_lists_the_names() -> None:
    for name in LOSSES:
        check_loss(name, {})
    check_loss("simpo", {"margin_ratio": 0.0})
    check_loss("rdpo", {"label_smoothing": 0.49})
    with pytest.raises(ConfigError) as wrong:
        check_loss("ipo_maen", {})
    assert str(wrong.value) == (
        "loss: 'ipo_maen' is none of cdpo, dpo, ipo, ipo_mean, rdpo, simpo, slic "
        "(did you mean 'ipo_mean'?)"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dpo", {"label_smoothing": 0.1}, "unknown option 'label_smoothing'; there are none"),
        ("simpo", {"gamma": 1.0}, "unknown option 'gamma'; there are margin_ratio"),
        ("cdpo", {"label_smooting": 0.1}, "(did you mean 'label_smoothing'?)"),
        ("cdpo", {"label_smoothing": 0.5}, "label_smoothing: 0.5 is outside [0, 0.5)"),
        ("rdpo", {"label_smoothing": -0.1}, "label_smoothing: -0.1 is outside [0, inf)"),
        ("rdpo", {"label_smoothing": "1e-1"}, "is not a number but text"),
        ("simpo", {"margin_ratio": -1.0}, "loss_config: margin_ratio: -1.0 is outside [0, inf)"),
        ("dpo", [], "loss_config: [] is not a mapping of options"),
    ],
)
def test_wrong_options_are_one_clear_line(name: str, options: Any, message: str) -> None:
    for check in (
        lambda: check_loss(name, options),
        PolicyTrainConfig(loss=name, loss_config=options).validate,
    ):
        with pytest.raises(ConfigError) as wrong:
            check()
        assert message in str(wrong.value)
        assert "loss_config" in str(wrong.value)
        assert "\n" not in str(wrong.value)
