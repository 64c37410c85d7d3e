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
    label_loss,
    rdpo,
    rpo,
    simpo,
)
from rllib_sea.preference_models import DROP, TIE_MODELS, label_nll
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


def test_rpo_by_hand() -> None:
    """ln 2 at h = 0, and 5 nats of two tokens: 2.5 a token; at a weight of 0 it is DPO."""
    pair = logps([0.0], lengths=(2, 3))
    assert rpo(pair, 0.1).item() == pytest.approx(math.log(2) + 2.5)
    assert rpo(pair, 0.1, nll_weight=0.2).item() == pytest.approx(math.log(2) + 0.5)
    margins = [-3.0, 0.0, 0.5]
    assert losses("rpo", margins, 0.1, nll_weight=0.0) == losses("dpo", margins, 0.1)


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
    limits |= {"simpo": [0, inf], "cdpo": [inf, inf], "rdpo": [-inf, inf], "rpo": [-inf, inf]}
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
        "loss: 'ipo_maen' is none of cdpo, dpo, ipo, ipo_mean, rdpo, reinforce, rpo, simpo, "
        "slic (did you mean 'ipo_mean'?)"
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
        ("rpo", {"nll_weight": -1.0}, "loss_config: nll_weight: -1.0 is outside [0, inf)"),
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


# -- Labels in doubt, weights, ties ---------------------------------------------------


def labelled(
    name: str,
    pairs: PairLogProbs,
    preference: list[float] | torch.Tensor,
    weight: float = 1.0,
    ties: str = DROP,
    tie_margin: float | None = None,
    **options: Any,
) -> torch.Tensor:
    c = torch.as_tensor(preference, dtype=pairs.chosen.dtype)
    w = torch.full_like(c, weight)
    return label_loss(
        name, pairs, 0.1, options, preference=c, weight=w, ties=ties, tie_margin=tie_margin
    )


def random_logps(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Of 64 pairs, the first four with responses that are impossible under the policy."""
    values = 20 * torch.randn(4, 64, dtype=dtype, generator=torch.Generator().manual_seed(1)) - 60
    values[0, 0], values[1, 1] = -math.inf, -math.inf
    values[0, 2], values[1, 3] = math.nan, math.nan
    return list(values)


@pytest.mark.parametrize("ties", ["drop", "soft"])
@pytest.mark.parametrize("name", LOSSES)
def test_without_doubt_the_loss_is_itself_to_the_bit(name: str, ties: str) -> None:
    """Gradients, too, whatever the exchanged pair were, and beside labels that are in doubt."""
    lengths = torch.arange(1, 65)
    certain = torch.arange(64) % 8 < 6
    results = []
    for ours in (True, False):
        chosen, rejected, *reference = random_logps()
        leaves = [chosen.requires_grad_(), rejected.requires_grad_()]
        pairs = PairLogProbs(chosen, rejected, *reference, lengths, lengths.flip(0))
        if ours:
            preference = torch.where(certain, 1.0, 0.7)
            loss = labelled(name, pairs, preference, ties=ties)
        else:
            loss = LOSSES[name].function(pairs, 0.1)
        gradients = torch.autograd.grad(loss[certain].sum(), leaves)
        results.append([loss.detach(), *gradients])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one[certain].isnan(), other[certain].isnan())
        assert torch.equal(one[certain].nan_to_num(7.0), other[certain].nan_to_num(7.0))


@pytest.mark.parametrize("name", LOSSES)
def test_a_label_in_doubt_weighs_both_orders(name: str) -> None:
    """w [c loss(pair) + (1 - c) loss(pair the other way round)], lengths exchanged as well."""
    values = random_logps(torch.float64)
    chosen, rejected, reference_chosen, reference_rejected = (v[4:] for v in values)
    lengths = torch.arange(1, 61)
    pairs = PairLogProbs(
        chosen, rejected, reference_chosen, reference_rejected, lengths, lengths.flip(0)
    )
    other = PairLogProbs(
        rejected, chosen, reference_rejected, reference_chosen, lengths.flip(0), lengths
    )
    function = LOSSES[name].function
    for c, w in ((1.0, 3.0), (0.8, 0.5), (0.8, 0.0)):
        expected = w * (c * function(pairs, 0.1) + (1 - c) * function(other, 0.1))
        torch.testing.assert_close(labelled(name, pairs, [c] * 60, w), expected)
    half = 0.5 * (function(pairs, 0.1) + function(other, 0.1))
    torch.testing.assert_close(labelled(name, pairs, [0.5] * 60, ties="soft"), half)
    assert labelled(name, pairs, [0.5] * 60, ties="drop").tolist() == [0.0] * 60


def test_dpo_on_labels_in_doubt_is_cdpo() -> None:
    margins = [-1e4, -3.0, 0.0, 0.5, 1e4]
    smoothed = losses("cdpo", margins, 0.1, label_smoothing=0.2)
    assert labelled("dpo", logps(margins), [0.8] * 5).tolist() == pytest.approx(smoothed)


def test_a_soft_tie_pulls_dpo_and_ipo_towards_a_margin_of_zero() -> None:
    for name in ("dpo", "ipo"):
        pairs = logps([-30.0, 0.0, 30.0])
        pairs.chosen.requires_grad_()
        loss = labelled(name, pairs, [0.5] * 3, ties="soft")
        (gradient,) = torch.autograd.grad(loss.sum(), pairs.chosen)
        assert gradient[0] < 0 < gradient[2]
        assert gradient[1].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("ties", TIE_MODELS)
def test_a_model_of_ties_sees_betas_share_of_the_margin(ties: str) -> None:
    margins, preference = [-20.0, 0.0, 7.0], [1.0, 0.5, 0.7]
    d = 0.1 * torch.tensor(margins, dtype=torch.float64)
    expected = 2.0 * label_nll(d, torch.tensor(preference, dtype=torch.float64), ties, 1.5)
    got = labelled("dpo", logps(margins), preference, 2.0, ties, 1.5)
    torch.testing.assert_close(got, expected)


def test_dpo_with_rao_kuppers_ties_by_hand() -> None:
    """beta h = a = ln 3: a win has s(0) = 1/2; at 0, a tie has (9 - 1) / 16 = 1/2."""
    h = 10 * math.log(3)
    got = labelled("dpo", logps([h, 0.0]), [1.0, 0.5], ties="rao_kupper", tie_margin=math.log(3))
    assert got.tolist() == pytest.approx([math.log(2), math.log(2)])
