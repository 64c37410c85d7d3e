"""Models of wins and ties: numbers by hand, properties, extremes; without doubt nothing changes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rllib_sea.preference_models import (
    TIE_MODELS,
    TIES,
    bradley_terry_win,
    davidson_tie,
    davidson_win,
    label_nll,
    rao_kupper_tie,
    rao_kupper_win,
)

LN_3, LN_4 = math.log(3.0), math.log(4.0)
DIFFERENCES = st.floats(-30, 30)
MARGINS = st.floats(1e-3, 10)


def probability(nll: torch.Tensor) -> float:
    return math.exp(-nll.item())


def outcomes(model: str, difference: float, margin: float) -> tuple[float, float, float]:
    """Probabilities of a win, a loss and a tie."""
    d = torch.tensor(difference, dtype=torch.float64)
    functions = TIE_MODELS[model]
    return (
        probability(functions.win(d, margin)),
        probability(functions.win(-d, margin)),
        probability(functions.tie(d, margin)),
    )


def nll(
    differences: list[float], preference: float, ties: str, margin: float | None = None
) -> list[float]:
    d = torch.tensor(differences, dtype=torch.float64)
    return label_nll(d, torch.full_like(d, preference), ties, margin).tolist()


def test_bradley_terry_by_hand() -> None:
    """s(0) = 1/2, s(ln 3) = 3/4, s(-ln 3) = 1/4."""
    d = torch.tensor([0.0, LN_3, -LN_3])
    expected = [math.log(2), math.log(4 / 3), math.log(4)]
    assert bradley_terry_win(d).tolist() == pytest.approx(expected)


def test_rao_kupper_by_hand() -> None:
    """a = ln 3. d = 0: s(-ln 3) = 1/4 twice, tie (9 - 1) / 4 / 4 = 1/2.

    d = ln 3: s(0) = 1/2, s(-2 ln 3) = 1/10, tie 8 / 2 / 10 = 2/5.
    """
    assert outcomes("rao_kupper", 0.0, LN_3) == pytest.approx((1 / 4, 1 / 4, 1 / 2))
    assert outcomes("rao_kupper", LN_3, LN_3) == pytest.approx((1 / 2, 1 / 10, 2 / 5))


def test_davidson_by_hand() -> None:
    """nu = 2, equals: 1 : 1 : 2. Strengths 4 and 1, nu = 1: 4 : 1 : sqrt(4)."""
    assert outcomes("davidson", 0.0, 2.0) == pytest.approx((1 / 4, 1 / 4, 1 / 2))
    assert outcomes("davidson", LN_4, 1.0) == pytest.approx((4 / 7, 1 / 7, 2 / 7))


def test_ties_between_equals_by_hand() -> None:
    """What `tie_margin` means: tanh(a / 2) and nu / (2 + nu)."""
    for margin in (0.1, 1.0, 3.0):
        assert outcomes("rao_kupper", 0.0, margin)[2] == pytest.approx(math.tanh(margin / 2))
        assert outcomes("davidson", 0.0, margin)[2] == pytest.approx(margin / (2 + margin))


@pytest.mark.parametrize("model", TIE_MODELS)
@settings(deadline=None)
@given(difference=DIFFERENCES, margin=MARGINS)
def test_the_three_probabilities_sum_to_one(model: str, difference: float, margin: float) -> None:
    assert sum(outcomes(model, difference, margin)) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("model", TIE_MODELS)
@settings(deadline=None)
@given(difference=DIFFERENCES, margin=MARGINS)
def test_a_tie_has_no_sides_and_is_likeliest_between_equals(
    model: str, difference: float, margin: float
) -> None:
    win, loss, tie = outcomes(model, difference, margin)
    lost, won, other = outcomes(model, -difference, margin)
    assert (win, loss) == (won, lost)
    assert tie == pytest.approx(other, abs=1e-12)
    assert tie <= outcomes(model, 0.0, margin)[2] + 1e-12
    assert (win > loss) == (difference > 0) or abs(difference) < 1e-9


@pytest.mark.parametrize("model", TIE_MODELS)
@settings(deadline=None)
@given(difference=st.floats(-15, 15))
def test_without_a_margin_it_is_bradley_terry(model: str, difference: float) -> None:
    d = torch.tensor(difference, dtype=torch.float64)
    win, loss, tie = outcomes(model, difference, 1e-12)
    assert win == pytest.approx(torch.sigmoid(d).item(), abs=1e-8)
    assert loss == pytest.approx(torch.sigmoid(-d).item(), abs=1e-8)
    assert tie == pytest.approx(0.0, abs=1e-8)


def test_davidsons_decided_duels_are_bradley_terrys() -> None:
    """Which Rao and Kupper's are not: at a = d = ln 3 five wins for a loss, not three."""
    win, loss, _ = outcomes("davidson", LN_3, 2.0)
    assert win / (win + loss) == pytest.approx(3 / 4)
    win, loss, _ = outcomes("rao_kupper", LN_3, LN_3)
    assert win / (win + loss) == pytest.approx(5 / 6)


@pytest.mark.parametrize("function", [rao_kupper_win, rao_kupper_tie, davidson_win, davidson_tie])
def test_gradients_are_those_of_finite_differences(function) -> None:
    d = torch.tensor([-15.0, -1.0, 0.0, 0.3, 15.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: function(x, 0.7), (d,))


@pytest.mark.parametrize("margin", [1e-30, 1e-3, 1.0, 50.0, 1e3])
@pytest.mark.parametrize("function", [rao_kupper_win, rao_kupper_tie, davidson_win, davidson_tie])
def test_extremes_are_finite_and_their_gradients_too(function, margin: float) -> None:
    d = torch.tensor([-1e6, -1e4, -100.0, 0.0, 100.0, 1e4, 1e6], requires_grad=True)
    result = function(d, margin)
    (gradient,) = torch.autograd.grad(result.sum(), d)
    assert result.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 1.0


def test_far_apart_a_tie_costs_what_the_difference_says() -> None:
    """Rao-Kupper: d - a + 0 - (2a + ...): slope 1. Davidson: d/2 - ln nu: slope 1/2."""
    d = torch.tensor([1e4], dtype=torch.float64)
    log_factor = math.log(math.exp(2.0) - 1.0)
    assert rao_kupper_tie(d, 1.0).item() == pytest.approx(1e4 + 1.0 - log_factor)
    assert davidson_tie(d, 3.0).item() == pytest.approx(5e3 - math.log(3.0))


# -- Labels ---------------------------------------------------------------------------


def test_labels_by_hand() -> None:
    """c = 3/4 at d = ln 3: 3/4 ln(4/3) + 1/4 ln 4. A soft tie: the mean of both; a dropped one 0.

    Under Rao-Kupper with a = ln 3: 3/4 ln 2 + 1/4 ln 10, a tie ln(5/2).
    """
    doubt = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    half = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    assert nll([LN_3], 0.75, "drop") == pytest.approx([doubt])
    assert nll([LN_3], 0.75, "soft") == pytest.approx([doubt])
    assert nll([LN_3], 0.5, "soft") == pytest.approx([half])
    assert nll([LN_3], 0.5, "drop") == [0.0]
    doubt = 0.75 * math.log(2) + 0.25 * math.log(10)
    assert nll([LN_3], 0.75, "rao_kupper", LN_3) == pytest.approx([doubt])
    assert nll([LN_3], 0.5, "rao_kupper", LN_3) == pytest.approx([math.log(5 / 2)])
    assert nll([LN_4], 0.5, "davidson", 1.0) == pytest.approx([math.log(7 / 2)])
    assert nll([LN_4], 1.0, "davidson", 1.0) == pytest.approx([math.log(7 / 4)])


@settings(deadline=None)
@given(
    difference=st.floats(-20, 20),
    preference=st.floats(0.5, 1.0, exclude_min=True, exclude_max=True),
)
def test_a_label_in_doubt_is_least_where_the_model_doubts_as_much(
    difference: float, preference: float
) -> None:
    """Cross-entropy: at d = log(c / (1 - c)), where it is the entropy."""
    best = math.log(preference) - math.log1p(-preference)
    least = nll([best], preference, "drop")[0]
    entropy = -preference * math.log(preference) - (1 - preference) * math.log1p(-preference)
    assert least == pytest.approx(entropy, abs=1e-6)
    assert nll([difference], preference, "drop")[0] >= least - 1e-6


@pytest.mark.parametrize("ties", ["drop", "soft"])
def test_without_doubt_it_is_bradley_terry_to_the_bit(ties: str) -> None:
    """Differences beyond every limit, too: of the other side nothing is computed."""
    rng = torch.Generator().manual_seed(0)
    d = torch.cat([5 * torch.randn(500, generator=rng), torch.tensor([1e30, -1e30, math.inf, 0])])
    ours, plain = (d.clone().requires_grad_() for _ in range(2))
    losses = label_nll(ours, torch.ones(len(d)), ties, None)
    expected = functional.softplus(-plain)
    assert torch.equal(losses, expected)
    losses.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(ours.grad.nan_to_num(7.0), plain.grad.nan_to_num(7.0))


@pytest.mark.parametrize("ties", TIES)
def test_labels_do_not_touch_their_neighbours(ties: str) -> None:
    """A batch of all kinds is what each kind is alone, gradients included."""
    margin = 1.3 if ties in TIE_MODELS else None
    preference = torch.tensor([1.0, 0.5, 0.8, 1.0, 0.5, 0.6])
    d = torch.tensor([0.3, -2.0, 1.0, math.inf, 4.0, -0.1], requires_grad=True)
    losses = label_nll(d, preference, ties, margin)
    (gradient,) = torch.autograd.grad(losses.sum(), d)
    for i in range(len(d)):
        alone = d[i : i + 1].detach().requires_grad_()
        loss = label_nll(alone, preference[i : i + 1], ties, margin)
        assert torch.equal(loss, losses[i : i + 1])
        assert torch.equal(torch.autograd.grad(loss.sum(), alone)[0], gradient[i : i + 1])
    assert losses.isfinite().all()
    assert gradient.isfinite().all()
    if ties == "drop":
        assert losses[preference == 0.5].tolist() == gradient[preference == 0.5].tolist() == [0, 0]
