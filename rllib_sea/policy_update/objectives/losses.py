"""Direct losses on preference pairs: pure functions of log-probabilities.

Most take the margin h, in nats::

    h = [log pi(y+|x) - log pi_ref(y+|x)] - [log pi(y-|x) - log pi_ref(y-|x)]

To add a loss, write its function and name it in :data:`LOSSES`. Its keyword-only parameters
are its options, each with a default; they are set by the key ``loss_config``. All losses in
a table: docs/losses.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from rllib_sea.policy_update.objectives.reinforce import (
    REINFORCE,
    ReinforceOptions,
    check_reinforce,
)
from rllib_sea.preference_models import TIE_MODELS, expected_loss, label_nll, where_uncertain
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PairLogProbs:
    """Log-probabilities of B pairs under the policy and its reference.

    Attributes:
        chosen: (B,) log pi(y+|x), summed over tokens.
        rejected: (B,) log pi(y-|x), summed over tokens.
        reference_chosen: (B,) log pi_ref(y+|x), summed.
        reference_rejected: (B,) log pi_ref(y-|x), summed.
        chosen_lengths: (B,) tokens of y+, at least 1.
        rejected_lengths: (B,) tokens of y-, at least 1.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    reference_chosen: torch.Tensor
    reference_rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor

    def margin(self) -> torch.Tensor:
        """(B,) h."""
        return (self.chosen - self.reference_chosen) - (self.rejected - self.reference_rejected)

    def mean_margin(self) -> torch.Tensor:
        """(B,) h with log-probabilities averaged over each response's tokens."""
        return (self.chosen - self.reference_chosen) / self.chosen_lengths - (
            self.rejected - self.reference_rejected
        ) / self.rejected_lengths

    def swapped(self, preference: torch.Tensor) -> PairLogProbs:
        """The pairs with the two responses exchanged; of certain ones without what they were.

        Args:
            preference: (B,) probability that the chosen response is preferred.
        """

        def kept(log_probs: torch.Tensor) -> torch.Tensor:
            return where_uncertain(log_probs, preference)

        return PairLogProbs(
            chosen=kept(self.rejected),
            rejected=kept(self.chosen),
            reference_chosen=kept(self.reference_rejected),
            reference_rejected=kept(self.reference_chosen),
            chosen_lengths=self.rejected_lengths,
            rejected_lengths=self.chosen_lengths,
        )


def dpo(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """``-log sigmoid(beta h)`` (DPO, arXiv 2305.18290, Eq. 7).

    Returns:
        (B,) losses.
    """
    return functional.softplus(-beta * logps.margin())


def ipo(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """``(h - 1 / (2 beta))^2`` with summed log-probabilities (IPO, arXiv 2310.12036, Eq. 17).

    Returns:
        (B,) losses.
    """
    return (logps.margin() - 1.0 / (2.0 * beta)).square()


def ipo_mean(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """IPO with log-probabilities averaged over tokens.

    The convention that IPO's authors confirmed to TRL's maintainers: h does not grow with
    the responses' lengths.

    Returns:
        (B,) losses.
    """
    return (logps.mean_margin() - 1.0 / (2.0 * beta)).square()


def slic(logps: PairLogProbs, beta: float) -> torch.Tensor:
    """``max(0, 1 - beta h)`` (SLiC, arXiv 2305.10425, in the form of SEA, section 3).

    Returns:
        (B,) losses.
    """
    return functional.relu(1.0 - beta * logps.margin())


def simpo(logps: PairLogProbs, beta: float, *, margin_ratio: float = 0.5) -> torch.Tensor:
    """``-log sigmoid(beta log pi(y+)/|y+| - beta log pi(y-)/|y-| - gamma)``.

    SimPO (arXiv 2405.14734, Eq. 6). There is no reference policy in it.

    Args:
        logps: B pairs.
        beta: Positive; the paper takes 2 to 2.5, DPO 0.1.
        margin_ratio: gamma / beta, at least 0: by how many nats per token the chosen response
            should be more probable. It is the authors' ``gamma_beta_ratio``; the paper's own
            gamma is ``margin_ratio * beta``.

    Returns:
        (B,) losses.
    """
    difference = logps.chosen / logps.chosen_lengths - logps.rejected / logps.rejected_lengths
    return functional.softplus(-beta * (difference - margin_ratio))


def cdpo(logps: PairLogProbs, beta: float, *, label_smoothing: float = 0.1) -> torch.Tensor:
    """``-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)``.

    Conservative DPO (E. Mitchell, "A note on DPO with noisy preferences and relationship to
    IPO", 2023): cross-entropy with labels that are right with probability 1 - e. Its minimum
    is at the finite margin ``beta h = log((1 - e) / e)``.

    Args:
        logps: B pairs.
        beta: Positive.
        label_smoothing: e, in [0, 0.5).

    Returns:
        (B,) losses.
    """
    x = beta * logps.margin()
    right, flipped = functional.softplus(-x), functional.softplus(x)
    return (1.0 - label_smoothing) * right + label_smoothing * flipped


def rdpo(logps: PairLogProbs, beta: float, *, label_smoothing: float = 0.1) -> torch.Tensor:
    """``[-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)] / (1 - 2 e)``.

    Robust DPO (arXiv 2403.00409): if labels are flipped with probability e, its
    expectation is DPO's loss on the true labels. It is not bounded below: its gradient in
    beta h tends to ``-e / (1 - 2 e)``, not to 0.

    Args:
        logps: B pairs.
        beta: Positive.
        label_smoothing: e, the probability of a flipped label, in [0, 0.5).

    Returns:
        (B,) losses.
    """
    x = beta * logps.margin()
    right, flipped = functional.softplus(-x), functional.softplus(x)
    weighted = (1.0 - label_smoothing) * right - label_smoothing * flipped
    return weighted / (1.0 - 2.0 * label_smoothing)


def rpo(logps: PairLogProbs, beta: float, *, nll_weight: float = 1.0) -> torch.Tensor:
    """``-log sigmoid(beta h) - a log pi(y+|x) / |y+|``: DPO that holds on to the chosen response.

    Iterative reasoning preference optimization (arXiv 2404.19733, Eq. 1). DPO is content when
    the rejected response becomes less probable faster than the chosen one; with this term the
    chosen one has to stay probable. TRL's ``rpo_alpha`` averages over the tokens of a batch
    instead of those of each response.

    Args:
        logps: B pairs.
        beta: Positive.
        nll_weight: a, at least 0.

    Returns:
        (B,) losses.
    """
    return dpo(logps, beta) - nll_weight * logps.chosen / logps.chosen_lengths


def _check_nll_weight(*, nll_weight: float = 1.0) -> None:
    check.check_number("loss_config: nll_weight", nll_weight)


def _check_margin_ratio(*, margin_ratio: float = 0.5) -> None:
    check.check_number("loss_config: margin_ratio", margin_ratio)


def _check_label_smoothing(*, label_smoothing: float = 0.1) -> None:
    key = "loss_config: label_smoothing"
    check.check_number(key, label_smoothing)
    if label_smoothing >= 0.5:
        raise ConfigError(f"{key}: {label_smoothing!r} is outside [0, 0.5)")


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss and the check of its options.

    Attributes:
        function: The loss: B pairs and a positive beta to (B,) losses; its keyword-only
            parameters are its options.
        check: Raises ConfigError for an option's bad value; called with the options given.
    """

    function: Callable[..., torch.Tensor]
    check: Callable[..., None] | None = None


LOSSES: dict[str, Loss] = {
    "dpo": Loss(dpo),
    "ipo": Loss(ipo),
    "ipo_mean": Loss(ipo_mean),
    "slic": Loss(slic),
    "simpo": Loss(simpo, _check_margin_ratio),
    "cdpo": Loss(cdpo, _check_label_smoothing),
    "rdpo": Loss(rdpo, _check_label_smoothing),
    "rpo": Loss(rpo, _check_nll_weight),
}


def label_loss(
    name: str,
    logps: PairLogProbs,
    beta: float,
    options: Mapping[str, Any],
    *,
    preference: torch.Tensor,
    weight: torch.Tensor,
    ties: str,
    tie_margin: float | None,
) -> torch.Tensor:
    """``w [c loss(pair) + (1 - c) loss(swapped pair)]``: a loss on labels that may be in doubt.

    With c = 1 and w = 1 it is the loss itself, to the bit. Under a model of ties it is
    ``w label_nll(beta h)`` (:func:`rllib_sea.preference_models.label_nll`), which differs from DPO
    for wins, too: they have to be as probable as a tie leaves room for.

    Args:
        name: A name of :data:`LOSSES`.
        logps: B pairs.
        beta: Positive.
        options: The loss's options.
        preference: (B,) c, probability that the chosen response is preferred, in [0.5, 1].
        weight: (B,) w, at least 0.
        ties: What a tie (c = 0.5) teaches, one of :data:`rllib_sea.preference_models.TIES`.
        tie_margin: The number of a model of ties; None if there is none.

    Returns:
        (B,) losses.
    """
    if ties in TIE_MODELS:
        return weight * label_nll(beta * logps.margin(), preference, ties, tie_margin)
    function = LOSSES[name].function
    won = function(logps, beta, **options)
    lost = function(logps.swapped(preference), beta, **options)
    return weight * expected_loss(won, lost, preference, ties)


def check_loss(name: str, options: Mapping[str, Any]) -> None:
    """Checks a loss's name and options.

    Args:
        name: The key ``loss``.
        options: The key ``loss_config``.

    Raises:
        ConfigError: Listing the losses, or the loss's options, or naming a bad value.
    """
    check.check_choice("loss", name, (*LOSSES, REINFORCE))
    if name == REINFORCE:
        check.check_options("loss_config", options, ReinforceOptions, check_reinforce)
        return
    loss = LOSSES[name]
    check.check_options("loss_config", options, loss.function, loss.check)
