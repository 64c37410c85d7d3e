"""Which prompts of a larger pool are worth a label (APL, arXiv 2402.08114)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rllib_sea.exploration.base import Proposals, Selection, required_implicit_rewards


def predictive_entropy(proposals: Proposals) -> torch.Tensor:
    """Monte Carlo estimate of the policy's entropy at each prompt.

    ``H(x) = -E_{y ~ pi}[log pi(y|x)]``, the mean over the candidates that were sampled from the
    policy, in nats, summed over tokens (APL does not divide by the length: longer responses
    have more). Exact in expectation if candidates are sampled at temperature 1; at another
    temperature it is a cross-entropy.

    Args:
        proposals: B prompts with M candidates each.

    Returns:
        (B,).
    """
    return -proposals.log_probs[:, ~proposals.from_reference].mean(dim=1)


def preference_certainty(proposals: Proposals, selection: Selection) -> torch.Tensor:
    """How sure the implicit preference model is of each selected duel.

    ``|h(first) - h(second)|`` with ``h = log pi(y|x) - log pi_ref(y|x)``: APL's margin of
    implicit rewards without its factor beta, which changes no order.

    Args:
        proposals: B prompts with M candidates each.
        selection: Their duels.

    Returns:
        (B,) in nats; it means nothing if the selection is not valid.

    Raises:
        ValueError: The proposals have no implicit rewards.
    """
    implicit = required_implicit_rewards(proposals)
    rows = torch.arange(implicit.shape[0])
    return (implicit[rows, selection.first] - implicit[rows, selection.second]).abs()


def choose_prompts(scores: torch.Tensor, valid: torch.Tensor, count: int) -> torch.Tensor:
    """The prompts with the highest scores.

    Prompts without a duel come after all others; of equal scores the lower index comes first.

    Args:
        scores: (B,).
        valid: (B,) bool: which prompts have a duel.
        count: Prompts to take; all if there are no more.

    Returns:
        (min(count, B),) int64 indices in increasing order.
    """
    ranked = scores.masked_fill(~valid, -torch.inf)
    return ranked.argsort(descending=True, stable=True)[:count].sort().values


@dataclass(frozen=True, slots=True)
class Acquisition:
    """A score by which prompts are chosen.

    Attributes:
        score: From proposals and their duels to (B,) scores; higher is chosen first.
        needs_implicit_rewards: Whether :attr:`Proposals.implicit_rewards` must be there.
    """

    score: Callable[[Proposals, Selection], torch.Tensor]
    needs_implicit_rewards: bool = False


ACQUISITIONS: dict[str, Acquisition] = {
    "certainty": Acquisition(preference_certainty, needs_implicit_rewards=True),
    "entropy": Acquisition(lambda proposals, selection: predictive_entropy(proposals)),
}
