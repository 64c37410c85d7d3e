"""What scoring of responses takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rllib_sea.duels.records import PreferencePair

if TYPE_CHECKING:  # the feed's process, which passes these on, needs no torch
    import torch


@dataclass(frozen=True, slots=True)
class PromptResponses:
    """A prompt with n >= 1 responses, as tokens; a pair is n = 2.

    Attributes:
        prompt_token_ids: The prompt as the policy saw it.
        responses: n responses, as sampled.

    Raises:
        ValueError: For an empty prompt or response: it has no log-probability.
    """

    prompt_token_ids: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not (self.prompt_token_ids and self.responses and all(self.responses)):
            raise ValueError("an empty prompt or response")

    @property
    def num_tokens(self) -> int:
        """Length of its packed row."""
        return len(self.prompt_token_ids) + sum(map(len, self.responses))

    def pieces(self, most: int) -> list[PromptResponses]:
        """The same responses in as few and as equal pieces of at most ``most`` as possible."""
        num = len(self.responses)
        count = -(-num // most)
        cuts = [i * num // count for i in range(count + 1)]
        return [
            PromptResponses(self.prompt_token_ids, self.responses[a:b]) for a, b in pairwise(cuts)
        ]


@dataclass(frozen=True, slots=True)
class CandidateAdvantages:
    """A prompt's candidates, and how much better than the others each is.

    Attributes:
        candidates: The prompt with its candidates.
        advantages: One per candidate.

    Raises:
        ValueError: Their numbers differ.
    """

    candidates: PromptResponses
    advantages: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.advantages) != len(self.candidates.responses):
            raise ValueError("as many advantages as candidates are wanted")

    def pieces(self, most: int) -> list[CandidateAdvantages]:
        """The same candidates in as few and as equal pieces of at most ``most`` as possible."""
        left = list(self.advantages)
        pieces = []
        for piece in self.candidates.pieces(most):
            size = len(piece.responses)
            pieces.append(CandidateAdvantages(piece, tuple(left[:size])))
            del left[:size]
        return pieces


def pair_responses(pair: PreferencePair) -> PromptResponses:
    """A pair's prompt with its chosen and its rejected response, in this order.

    Raises:
        ValueError: For an empty prompt or response.
    """
    try:
        return PromptResponses(
            pair.prompt_token_ids, (pair.chosen_token_ids, pair.rejected_token_ids)
        )
    except ValueError as error:
        raise ValueError(f"prompt {pair.prompt_id!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class ResponseScores:
    """What the policy thinks of S responses: all of the first prompt, all of the second, ...

    Everything is at temperature 1 and in nats.

    Attributes:
        log_probs: (S,) float64, log pi(y|x), summed over tokens.
        reference_log_probs: (S,) float64, log pi_ref(y|x), summed.
        kl: (S,) float64, ``sum_t KL(pi(.|x, y_<t) || pi_ref(.|x, y_<t))`` over the response's
            tokens, each of the exact next-token distributions. For responses sampled from pi
            at temperature 1 its expectation is the KL divergence of pi from pi_ref over
            sequences, with less variance than that of ``log_probs - reference_log_probs``.
            At least 0, and exactly 0 if the policy is the reference.
    """

    log_probs: np.ndarray
    reference_log_probs: np.ndarray
    kl: np.ndarray

    @property
    def implicit_rewards(self) -> np.ndarray:
        """(S,) ``log pi(y|x) - log pi_ref(y|x)``."""
        return self.log_probs - self.reference_log_probs


def token_scores(
    logits: torch.Tensor, reference_logits: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Compares next-token distributions of policy and reference.

    Args:
        logits: (T, V) the policy's.
        reference_logits: (T, V) the reference's.
        target: (T,) the tokens that came.

    Returns:
        (T, 3) float32: ``log pi(target)``, ``log pi_ref(target)`` and ``KL(pi || pi_ref)``.
    """
    import torch

    log_p = torch.log_softmax(logits.float(), dim=-1)
    log_q = torch.log_softmax(reference_logits.float(), dim=-1)
    came = [log.gather(-1, target[:, None])[:, 0] for log in (log_p, log_q)]
    # Rounding can make a divergence of nearly 0 negative.
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp(min=0.0)
    return torch.stack([*came, kl], dim=-1)
