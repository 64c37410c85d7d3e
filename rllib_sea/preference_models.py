"""How probable a label is, given how much better one response is: pure functions of differences.

d is the difference of two responses' rewards, that of the preferred one first; s is the sigmoid.
Bradley and Terry give a tie no probability: P(win) = s(d), P(loss) = s(-d). Two extensions do:

- Rao and Kupper (JASA 62, 1967), a > 0: P(win) = s(d - a),
  P(tie) = (e^(2a) - 1) s(d - a) s(-d - a). A difference has to be noticed: near 0 it is a tie.
- Davidson (JASA 65, 1970), nu > 0: P(win), P(loss) and P(tie) are as e^(d/2), e^(-d/2) and nu.
  A tie is as probable as the geometric mean of a win and a loss, times nu.

Both are Bradley and Terry's model at a = 0 and nu = 0. DPO with them: arXiv 2409.17431.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError

# Of a label: which preference makes it a tie, and which leaves no doubt.
TIE, CERTAIN = 0.5, 1.0


def bradley_terry_win(difference: torch.Tensor) -> torch.Tensor:
    """``-log s(d)``.

    Args:
        difference: d, of any shape, in nats.

    Returns:
        Of the same shape, in nats.
    """
    return functional.softplus(-difference)


def rao_kupper_win(difference: torch.Tensor, margin: float) -> torch.Tensor:
    """``-log s(d - a)``; as :func:`bradley_terry_win`, with a ``margin`` a > 0."""
    return functional.softplus(margin - difference)


def rao_kupper_tie(difference: torch.Tensor, margin: float) -> torch.Tensor:
    """``-log[(e^(2a) - 1) s(d - a) s(-d - a)]``; least at d = 0, where P(tie) = tanh(a / 2)."""
    # e^(2a) itself may overflow; its logarithm does not.
    log_factor = 2.0 * margin + math.log(-math.expm1(-2.0 * margin))
    return rao_kupper_win(difference, margin) + rao_kupper_win(-difference, margin) - log_factor


def davidson_win(difference: torch.Tensor, nu: float) -> torch.Tensor:
    """``log[1 + e^(-d) + nu e^(-d/2)]``; as :func:`bradley_terry_win`, with nu > 0."""
    terms = (torch.zeros_like(difference), -difference, math.log(nu) - difference / 2.0)
    return torch.stack(terms).logsumexp(0)


def davidson_tie(difference: torch.Tensor, nu: float) -> torch.Tensor:
    """``log[1 + (e^(d/2) + e^(-d/2)) / nu]``; least at d = 0, where P(tie) = nu / (2 + nu)."""
    half, log_nu = difference / 2.0, math.log(nu)
    terms = (torch.zeros_like(difference), half - log_nu, -half - log_nu)
    return torch.stack(terms).logsumexp(0)


@dataclass(frozen=True, slots=True)
class TieModel:
    """A model of wins, losses and ties; a loss is a win of the negative difference.

    Attributes:
        win: Negative log-probability of a win, by d and the model's own number.
        tie: That of a tie.
    """

    win: Callable[[torch.Tensor, float], torch.Tensor]
    tie: Callable[[torch.Tensor, float], torch.Tensor]


TIE_MODELS = {
    "rao_kupper": TieModel(rao_kupper_win, rao_kupper_tie),
    "davidson": TieModel(davidson_win, davidson_tie),
}
# What a tie teaches: nothing; as much as a win and a loss of half the weight; what a model says.
DROP, SOFT = "drop", "soft"
TIES = (DROP, SOFT, *TIE_MODELS)
# The loss whose margin is a difference of rewards: it changes its sign with the pair.
LOSS = "dpo"


def expected_loss(
    won: torch.Tensor, lost: torch.Tensor, preference: torch.Tensor, ties: str
) -> torch.Tensor:
    """``c won + (1 - c) lost``, and 0 for a tie that is dropped.

    A label that is certain (c = 1) has ``won``, to the bit.

    Args:
        won: (..., N) losses of labels, were the preferred response preferred for sure.
        lost: Were it the other way round. If c = 1 it is not used, but its gradient is multiplied
            by 0 and must be finite: compute it of :func:`where_uncertain`.
        preference: (N,) c, probability that the preferred response is preferred, in [0.5, 1].
        ties: One of :data:`TIES`.

    Returns:
        (..., N).
    """
    loss = preference * won + (1.0 - preference) * lost
    loss = torch.where(preference == CERTAIN, won, loss)
    return torch.where(preference == TIE, 0.0, loss) if ties == DROP else loss


def where_uncertain(values: torch.Tensor, preference: torch.Tensor) -> torch.Tensor:
    """``values``, and 0 if c = 1: whatever they are then, neither loss nor gradient meets them.

    Args:
        values: (..., N).
        preference: (N,) c.
    """
    return torch.where(preference == CERTAIN, 0.0, values)


def label_nll(
    difference: torch.Tensor, preference: torch.Tensor, ties: str, tie_margin: float | None
) -> torch.Tensor:
    """Negative log-likelihood of labels.

    ``-c log P(win) - (1 - c) log P(loss)``, and for a tie (c = 0.5) what ``ties`` says: 0, the
    same, or ``-log P(tie)``.

    Args:
        difference: (..., N) d, in nats.
        preference: (N,) c, probability that the preferred response is preferred, in [0.5, 1].
        ties: One of :data:`TIES`.
        tie_margin: The number of the model of ties; None if there is none.

    Returns:
        (..., N), in nats.
    """
    uncertain = where_uncertain(difference, preference)
    model = TIE_MODELS.get(ties)
    if model is None:
        won, lost = bradley_terry_win(difference), bradley_terry_win(-uncertain)
        return expected_loss(won, lost, preference, ties)
    assert tie_margin is not None
    won, lost = model.win(difference, tie_margin), model.win(-uncertain, tie_margin)
    tied = model.tie(uncertain, tie_margin)
    return torch.where(preference == TIE, tied, expected_loss(won, lost, preference, ties))


def check_ties(ties: Any, tie_margin: Any, loss: str) -> None:
    """Checks the keys ``ties`` and ``tie_margin`` beside the key ``loss``.

    Raises:
        ConfigError: One line with the key, the value and what was expected.
    """
    check.check_choice("ties", ties, TIES)
    if ties not in TIE_MODELS:
        if tie_margin is not None:
            raise ConfigError(f"tie_margin: {tie_margin!r} has no effect with ties {ties}")
        return
    if loss != LOSS:
        raise ConfigError(
            f"ties, loss: {ties!r} is defined for the loss {LOSS!r} only, not {loss!r}"
        )
    if tie_margin is None:
        raise ConfigError(f"tie_margin: ties {ties} needs it, a number above 0")
    check.check_number("tie_margin", tie_margin, open_low=True)
