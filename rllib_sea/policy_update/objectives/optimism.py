"""Optimism terms: what XPO and SELM add to DPO's loss so that the policy explores.

Both push down the probability of responses that the reference policy gives, so that
probability moves to responses which nobody has compared yet. Both need pairs of which
exactly one response was sampled from the reference policy. docs/losses.md has both beside
what other code does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy_update.objectives.losses import PairLogProbs
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError

# What both are derived for: the reward that DPO's loss implies.
LOSS = "dpo"


def xpo(logps: PairLogProbs, chosen_from_reference: torch.Tensor, beta: float) -> torch.Tensor:
    """``log pi(y_ref|x)``, summed over tokens (XPO, arXiv 2405.21046).

    The loss is ``DPO + alpha log pi(y_ref|x)``. TRL's XPOTrainer (alpha 1e-5) and oat (alpha
    5e-6, as SEA's appendix) have the same sign, sum and scale; oat leaves out pairs of two
    equal responses, which never get here.

    Args:
        logps: B pairs.
        chosen_from_reference: (B,) bool, true if y_ref is the chosen response, false if
            it is the rejected one.
        beta: Not used.

    Returns:
        (B,) terms, without alpha.
    """
    return torch.where(chosen_from_reference, logps.chosen, logps.rejected)


def selm(logps: PairLogProbs, chosen_from_reference: torch.Tensor, beta: float) -> torch.Tensor:
    """``beta [log pi(y_ref|x) - log pi_ref(y_ref|x)]`` (SELM, arXiv 2405.19332, Eq. 4.2).

    The loss is ``DPO + alpha beta log pi(y_ref|x)``; the constant ``log pi_ref(y_ref|x)`` is
    taken off as in the authors' code, so that the term is 0 before the first step. The
    gradient is XPO's with ``alpha beta`` for alpha. Algorithm 1 of the paper writes the term
    without beta; Eq. 4.2 and the authors' code have it. There the reference policy is replaced
    by the policy after each of three iterations, and y_ref need not be in the pair; here it
    is the run's fixed reference, and y_ref is one of the pair.

    Args:
        logps: B pairs.
        chosen_from_reference: As in :func:`xpo`.
        beta: DPO's.

    Returns:
        (B,) terms, without alpha.
    """
    return beta * torch.where(
        chosen_from_reference,
        logps.chosen - logps.reference_chosen,
        logps.rejected - logps.reference_rejected,
    )


OPTIMISM: dict[str, Callable[[PairLogProbs, torch.Tensor, float], torch.Tensor]] = {
    "xpo": xpo,
    "selm": selm,
}


def check_optimism(optimism: str | None, loss: str) -> None:
    """Checks the key ``optimism`` beside the key ``loss``.

    Raises:
        ConfigError: There is no such term, or it is not defined for the loss.
    """
    if optimism is None:
        return
    check.check_choice("optimism", optimism, OPTIMISM)
    if loss != LOSS:
        raise ConfigError(
            f"optimism, loss: {optimism!r} is defined for the loss {LOSS!r} only, not {loss!r}"
        )


def check_pairs(optimism: str | None, pairs: Sequence[PreferencePair]) -> None:
    """Checks that pairs say what an optimism term needs.

    Raises:
        ValueError: For a pair of which not exactly one response is from the reference policy.
    """
    if optimism is None:
        return
    for pair in pairs:
        if pair.from_reference is None:
            raise ValueError(
                f"prompt {pair.prompt_id!r}: optimism {optimism!r} needs a pair of which one "
                "response was sampled from the reference policy"
            )
