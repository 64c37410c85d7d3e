"""The records that flow through a round: candidates, duels, preference pairs.

    prompt -> M candidates -> a duel (two of them) -> a label -> a preference pair

Each is a small typed record. Tokens that were sampled are the tokens that are
trained on: no record is ever built by tokenizing text again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # the feed's process, which passes pairs on, needs no environments
    from text_duel.verdicts import Label

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How responses are sampled.

    Attributes:
        max_new_tokens: Longest response, in tokens, the end token included.
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Nucleus mass in (0, 1].
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0

    def greedy(self) -> SamplingConfig:
        """The same limits, decoded greedily."""
        return SamplingConfig(self.max_new_tokens, temperature=0.0, top_p=1.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled response.

    Attributes:
        text: The response as text, special tokens left out, surrounding
            white space stripped.
        token_ids: The sampled tokens. The end token is last if and only if it was
            sampled (``finish_reason == "stop"``).
        logprobs: Log-probability of each token of ``token_ids`` under the sampling
            policy at temperature 1, in nats.
        finish_reason: ``"stop"`` when the end token was sampled, ``"length"`` when
            the response was cut at ``max_new_tokens``.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """What the policy update learns from.

    Attributes:
        prompt_id: The prompt's identity in its source.
        prompt_token_ids: The prompt as the policy saw it.
        chosen_token_ids: The preferred response, as sampled; of a tie the first one.
        rejected_token_ids: The other response, as sampled.
        synthetic: True if the ERM gave the label, False if the oracle did.
        from_reference: Which one was sampled from the reference policy, if exactly
            one of the two was.
        preference: Probability that the chosen response is preferred, in [0.5, 1]; 0.5 is a tie.
        weight: How much the label counts; see :class:`text_duel.verdicts.Label`.

    Raises:
        ValueError: The preference is out of range.
    """

    prompt_id: str
    prompt_token_ids: tuple[int, ...]
    chosen_token_ids: tuple[int, ...]
    rejected_token_ids: tuple[int, ...]
    synthetic: bool
    from_reference: Literal["chosen", "rejected"] | None = None
    preference: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.preference <= 1.0:
            raise ValueError(
                f"prompt {self.prompt_id!r}: preference {self.preference!r} is outside [0.5, 1]"
            )

    @property
    def is_tie(self) -> bool:
        """Whether neither response is preferred."""
        return self.preference == 0.5


@dataclass(frozen=True, slots=True)
class Duel:
    """Two responses to one prompt, and which of them is preferred.

    Of a tie the first response counts as the chosen one, so that a pair has two sides.

    Attributes:
        round: The round (call of ``training_step``) it belongs to, from 0.
        position: The prompt's place in the round's batch; with ``round`` and the
            run's seed it determines every random draw of this duel.
        prompt_id: The prompt's identity in its source.
        prompt_text: What the policy was asked.
        prompt_token_ids: The same as tokens.
        first: The first response chosen by the strategy.
        second: The second response, never the same text as the first.
        from_reference: Which of the two were sampled from the reference policy.
        member: The ensemble member that was drawn for the first response, or for
            the label of a synthetic pair; -1 if none was.
        synthetic: True if the ERM gave the label (no query).
        audited: True if the oracle labels a pair that the ERM would have labelled.
        label: Whether ``first`` is preferred.
        win_probability: The oracle's probability that ``first`` is preferred; NaN
            for synthetic duels.
        scores: The oracle's scores of ``(first, second)``, NaN if it has none or
            was not asked.
        features: (2, d) encoder features of ``(first, second)``, float32.
        member_rewards: (2, K) rewards of ``(first, second)`` by each member.
        policy_version: The version of the weights that sampled the responses.
    """

    round: int
    position: int
    prompt_id: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    first: Candidate
    second: Candidate
    from_reference: tuple[bool, bool]
    member: int
    synthetic: bool
    audited: bool
    label: Label
    win_probability: float
    scores: tuple[float, float]
    features: np.ndarray
    member_rewards: np.ndarray
    policy_version: int

    @property
    def first_wins(self) -> bool:
        """Whether the first response is preferred, or neither is."""
        return self.label.preference >= 0.5

    @property
    def chosen(self) -> Candidate:
        """The preferred response; of a tie the first."""
        return self.first if self.first_wins else self.second

    @property
    def rejected(self) -> Candidate:
        """The other response."""
        return self.second if self.first_wins else self.first

    def preference_pair(self) -> PreferencePair:
        """The duel as the policy update sees it."""
        preference, origin = self.label.preference, self.from_reference
        if not self.first_wins:
            preference, origin = 1.0 - preference, origin[::-1]
        return PreferencePair(
            self.prompt_id,
            self.prompt_token_ids,
            self.chosen.token_ids,
            self.rejected.token_ids,
            self.synthetic,
            which_from_reference(origin),
            preference,
            self.label.weight,
        )


def which_from_reference(origin: tuple[bool, bool]) -> Literal["chosen", "rejected"] | None:
    """Which of a pair is the reference policy's, for :attr:`PreferencePair.from_reference`.

    Args:
        origin: Whether the chosen and whether the rejected response are.
    """
    chosen, rejected = origin
    return None if chosen == rejected else "chosen" if chosen else "rejected"
