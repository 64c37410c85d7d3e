"""What every exploration strategy takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Proposals:
    """M candidates for each of B prompts, as a strategy sees them.

    Attributes:
        rewards: (K, B, M) reward of each candidate by each ensemble member.
        texts: (B, M) integer identity of each candidate's text: equal numbers in a row
            are equal texts (see :func:`text_identities`).
        log_probs: (B, M) summed log-probability of each candidate under the policy that
            sampled it, at temperature 1, in nats.
        implicit_rewards: (B, M) ``log pi(y|x) - log pi_ref(y|x)``, in nats; None unless the
            strategy says that it needs them.
        from_reference: (M,) which candidates were sampled from the reference policy; all
            False unless the strategy asks for such candidates.
        finished: (B, M) which candidates ended by themselves and were not cut.
    """

    rewards: torch.Tensor
    texts: torch.Tensor
    log_probs: torch.Tensor
    implicit_rewards: torch.Tensor | None
    from_reference: torch.Tensor
    finished: torch.Tensor


@dataclass(frozen=True, slots=True)
class Selection:
    """Two candidates of each prompt.

    Attributes:
        first: (B,) index of the first response.
        second: (B,) index of the second response; its text differs from the first's.
        member: (B,) ensemble member drawn for the first response, -1 if the
            strategy draws none.
        valid: (B,) False if the strategy has no duel to offer, since all M candidates
            (for ``xpo``: those that may duel) are one text; the other fields of that row
            then mean nothing.
        clash: (B,) True if the rule's own second response was the first's text, so that
            another one had to be taken.
    """

    first: np.ndarray
    second: np.ndarray
    member: np.ndarray
    valid: np.ndarray
    clash: np.ndarray


class SelectPairs(Protocol):
    """A strategy's function: pure, on proposals and generators."""

    # To a type checker, *args and **options of Any accept whatever options a strategy has.
    def __call__(
        self,
        proposals: Proposals,
        rngs: Sequence[np.random.Generator],
        *args: Any,
        **options: Any,
    ) -> Selection:
        """Selects a duel for each prompt.

        Args:
            proposals: B prompts with M candidates each.
            rngs: B generators, one per prompt.
            *args: None.
            **options: The strategy's own, from ``strategy_config``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Strategy:
    """An exploration strategy and what it needs.

    Attributes:
        select: The function; its keyword-only parameters are the strategy's options, each
            with a default.
        check: Raises ConfigError for an option's bad value; called with ``select``'s options.
        needs_implicit_rewards: Whether :attr:`Proposals.implicit_rewards` must be there.
        reference_candidates: Whether half of the M candidates are sampled from the
            reference policy.
        losses: The losses it is defined for; None: all.
    """

    select: SelectPairs
    check: Callable[..., None] | None = None
    needs_implicit_rewards: bool = False
    reference_candidates: bool = False
    losses: tuple[str, ...] | None = None


def text_identities(texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """Numbers the texts of each prompt: equal texts get equal numbers.

    Args:
        texts: B lists of M candidate texts.

    Returns:
        (B, M) int64; a text's number is the index of its first occurrence.
    """
    rows = []
    for row in texts:
        seen: dict[str, int] = {}
        rows.append([seen.setdefault(text, i) for i, text in enumerate(row)])
    return torch.tensor(rows, dtype=torch.int64)


def has_two_texts(texts: torch.Tensor) -> torch.Tensor:
    """(B,) bool: whether a prompt has at least two different candidates."""
    return (texts != texts[:, :1]).any(dim=1)


def argmax_of_other_text(
    values: torch.Tensor, texts: torch.Tensor, first: torch.Tensor
) -> torch.Tensor:
    """The best candidate whose text is not that of ``first``.

    Args:
        values: (B, M) what to maximise.
        texts: (B, M) text identities.
        first: (B,) index of the response that is taken.

    Returns:
        (B,) indices. Rows with one text only give an arbitrary index.
    """
    same = texts == texts.gather(1, first[:, None])
    return values.masked_fill(same, -torch.inf).argmax(dim=1)


def required_implicit_rewards(proposals: Proposals) -> torch.Tensor:
    """(B, M) the implicit rewards; raises ValueError if there are none."""
    if proposals.implicit_rewards is None:
        raise ValueError("implicit rewards are needed, the proposals have none")
    return proposals.implicit_rewards


def draw_members(num_members: int, rngs: Sequence[np.random.Generator]) -> torch.Tensor:
    """(B,) one ensemble member per prompt, uniformly (Algorithm 2, line 4)."""
    return torch.tensor([int(rng.integers(num_members)) for rng in rngs], dtype=torch.int64)


def member_argmax(rewards: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """(B,) the candidate that each prompt's drawn member likes best.

    Args:
        rewards: (K, B, M).
        member: (B,).
    """
    rows = torch.arange(rewards.shape[1])
    return rewards[member, rows].argmax(dim=1)


def first_copy(texts: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(B,) the first candidate of the same text.

    Args:
        texts: (B, M) text identities.
        index: (B,) candidates.
    """
    return (texts == texts.gather(1, index[:, None])).int().argmax(dim=1)


def is_copy(texts: torch.Tensor) -> torch.Tensor:
    """(B, M) bool: which candidates have the text of an earlier one.

    Args:
        texts: (B, M) text identities.
    """
    return (texts[:, :, None] == texts[:, None, :]).tril(diagonal=-1).any(dim=2)


def copies_are_alike(proposals: Proposals) -> bool:
    """Whether copies of one text differ in nothing that rules look at.

    Their rewards can still differ in the last bit: the first copy is taken.
    """
    return proposals.implicit_rewards is None and not bool(proposals.from_reference.any())


def make_selection(
    proposals: Proposals,
    first: torch.Tensor,
    second: torch.Tensor,
    member: torch.Tensor | None = None,
    *,
    favourite: torch.Tensor,
) -> Selection:
    """Puts a strategy's choice together.

    Args:
        proposals: What was chosen from.
        first: (B,) indices.
        second: (B,) indices.
        member: (B,) drawn members; None if the strategy draws none.
        favourite: (B,) what the rule would have taken as second response, were it free to
            take the first's text again.
    """
    texts = proposals.texts
    if copies_are_alike(proposals):
        first, second = first_copy(texts, first), first_copy(texts, second)
    clash = texts.gather(1, favourite[:, None]) == texts.gather(1, first[:, None])
    return Selection(
        first=first.numpy(),
        second=second.numpy(),
        member=torch.full_like(first, -1).numpy() if member is None else member.numpy(),
        valid=has_two_texts(texts).numpy(),
        clash=clash[:, 0].numpy(),
    )


def member_variance(values: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """Population variance over members, exactly 0 if all members have the same margin.

    Rounding is no disagreement: equal margins may have sigmoids, and K equal numbers a mean, that
    differ in their last bit, by how the CPU vectorises; of variances that should all be 0 the one
    with the most of it would be chosen.

    Args:
        values: (K, ...), each a function of the margin.
        margins: (K, ...) differences of two rewards.

    Returns:
        (...).
    """
    agreed = (margins == margins[:1]).all(dim=0)
    return values.var(dim=0, unbiased=False).masked_fill(agreed, 0.0)
