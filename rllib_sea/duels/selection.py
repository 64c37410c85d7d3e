"""From a round's proposals to its duels: which pair, and who labels it.

The rules themselves are pure functions of tensors (:mod:`rllib_sea.exploration`,
:mod:`rllib_sea.exploration.mixing`); here their choices become records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rllib_sea.duels.records import Candidate, Duel
from rllib_sea.duels.rounds import Proposal
from rllib_sea.exploration import STRATEGIES, Proposals, text_identities
from rllib_sea.exploration.mixing import mix
from rllib_sea.exploration.prompt_acquisition import ACQUISITIONS, choose_prompts
from rllib_sea.randomness import Stream, generators
from text_duel.verdicts import Label

# Why a prompt gives no duel.
INCOMPLETE, NON_FINITE, ONE_TEXT = "incomplete", "non_finite", "one_text"
SKIP_REASONS = {
    INCOMPLETE: "fewer than num_candidates responses, or one without tokens",
    NON_FINITE: "an ERM reward that is not finite",
    ONE_TEXT: "all responses that could duel are the same text",
}


@dataclass(frozen=True, slots=True)
class SelectedDuel:
    """Two candidates of one prompt, not yet labelled by the oracle.

    Attributes:
        proposal: The prompt with its candidates.
        first: Index of the first response.
        second: Index of the second response.
        member: See :class:`rllib_sea.duels.records.Duel`.
        clash: See :class:`rllib_sea.exploration.Selection`.
        synthetic: Whether an ensemble member labels it.
        member_label: Its label, for a synthetic duel.
    """

    proposal: Proposal
    first: int
    second: int
    member: int
    clash: bool
    synthetic: bool
    member_label: bool

    @property
    def responses(self) -> tuple[Candidate, Candidate]:
        """The first and the second response."""
        candidates = self.proposal.candidates
        return candidates[self.first], candidates[self.second]

    @property
    def from_reference(self) -> tuple[bool, bool]:
        """Which of the two were sampled from the reference policy."""
        first_of_them = len(self.proposal.candidates) - self.proposal.num_from_reference
        return self.first >= first_of_them, self.second >= first_of_them

    def labelled(
        self,
        round_index: int,
        label: Label | None = None,
        win_probability: float | None = None,
        scores: tuple[float, float] | None = None,
    ) -> Duel:
        """The labelled duel.

        Args:
            round_index: The round that selected it.
            label: The oracle's; None for a synthetic duel, which has a member's.
            win_probability: See :class:`rllib_sea.duels.records.Duel`; None if it is not known.
            scores: Likewise.
        """
        proposal = self.proposal
        pair = [self.first, self.second]
        return Duel(
            round=round_index,
            position=proposal.position,
            prompt_id=proposal.prompt_id,
            prompt_text=proposal.prompt_text,
            prompt_token_ids=proposal.prompt_token_ids,
            first=self.responses[0],
            second=self.responses[1],
            from_reference=self.from_reference,
            member=self.member,
            synthetic=self.synthetic,
            label=Label(float(self.member_label)) if label is None else label,
            win_probability=math.nan if win_probability is None else win_probability,
            scores=scores or (math.nan, math.nan),
            features=proposal.features[pair],
            member_rewards=proposal.rewards[:, pair].T.copy(),
            policy_version=proposal.policy_version,
        )


def usable_proposals(
    proposals: Sequence[Proposal], num_candidates: int
) -> tuple[list[Proposal], dict[str, list[str]]]:
    """Leaves out prompts from whose candidates nothing can be selected.

    Args:
        proposals: A round's proposals.
        num_candidates: M.

    Returns:
        The others, and the ids of the prompts left out by the reason.

    Raises:
        ArithmeticError: No reward of the round is finite: the ERM has diverged.
    """
    usable: list[Proposal] = []
    skipped: dict[str, list[str]] = {INCOMPLETE: [], NON_FINITE: []}
    for proposal in proposals:
        candidates = proposal.candidates
        if len(candidates) != num_candidates or not all(c.token_ids for c in candidates):
            skipped[INCOMPLETE].append(proposal.prompt_id)
        elif not np.isfinite(proposal.rewards).all():
            skipped[NON_FINITE].append(proposal.prompt_id)
        else:
            usable.append(proposal)
    # Without any response there is no reward, which is not the ERM's fault.
    rewards = [proposal.rewards for proposal in proposals if proposal.rewards.size]
    if rewards and not any(np.isfinite(row).any() for row in rewards):
        raise ArithmeticError(
            "no reward of the ERM is finite: it has diverged (erm_lr, erm_lambda) or its "
            "encoder gives no finite features (erm_encoder)"
        )
    return usable, skipped


def stack(proposals: Sequence[Proposal], implicit_rewards: np.ndarray | None) -> Proposals:
    """A round's proposals as the tensors that strategies take.

    Args:
        proposals: B of them, at least one, of M candidates each.
        implicit_rewards: (B, M), or None if they are not known.
    """
    num_candidates = len(proposals[0].candidates)
    reference = num_candidates - proposals[0].num_from_reference
    return Proposals(
        rewards=torch.from_numpy(np.stack([proposal.rewards for proposal in proposals], axis=1)),
        texts=text_identities([[c.text for c in p.candidates] for p in proposals]),
        log_probs=torch.tensor([[sum(c.logprobs) for c in p.candidates] for p in proposals]),
        implicit_rewards=None if implicit_rewards is None else torch.from_numpy(implicit_rewards),
        from_reference=torch.arange(num_candidates) >= reference,
    )


def select_duels(
    proposals: Sequence[Proposal],
    implicit_rewards: np.ndarray | None,
    *,
    strategy: str,
    options: Mapping[str, Any],
    synthetic: Sequence[bool],
    synthetic_pair: str,
    acquisition: str | None,
    num_duels: int,
    seed: int,
    round_index: int,
) -> tuple[list[SelectedDuel], list[str]]:
    """Selects a pair for each prompt, and says which pairs the ERM labels.

    Args:
        proposals: B usable ones.
        implicit_rewards: (B, M) in nats, if strategy or acquisition need them.
        strategy: A name of :data:`rllib_sea.exploration.STRATEGIES`.
        options: Its options.
        synthetic: For each position, whether the ERM labels.
        synthetic_pair: See :func:`rllib_sea.exploration.mixing.mix`.
        acquisition: How ``num_duels`` of the prompts are chosen; None takes all.
        num_duels: Prompts to keep.
        seed: The run's seed.
        round_index: The round.

    Returns:
        The duels in the order of their prompts, and the ids of all prompts that can have none
        because their candidates are one text.
    """
    if not proposals:
        return [], []
    view = stack(proposals, implicit_rewards)
    positions = [proposal.position for proposal in proposals]
    selection = STRATEGIES[strategy].select(
        view, generators(seed, round_index, positions, Stream.SELECTION), **options
    )
    mixed = mix(
        selection,
        view,
        [synthetic[position] for position in positions],
        synthetic_pair,
        generators(seed, round_index, positions, Stream.SYNTHETIC_LABEL),
    )
    kept = list(range(len(proposals)))
    if acquisition is not None:
        scores = ACQUISITIONS[acquisition].score(view, selection)
        kept = choose_prompts(scores, torch.from_numpy(selection.valid), num_duels).tolist()
    duels = [
        SelectedDuel(
            proposal=proposals[i],
            first=int(mixed.first[i]),
            second=int(mixed.second[i]),
            member=int(mixed.member[i]),
            clash=bool(selection.clash[i]),
            synthetic=synthetic[positions[i]],
            member_label=bool(mixed.first_wins[i]),
        )
        for i in kept
        if selection.valid[i]
    ]
    one_text = [
        proposal.prompt_id
        for proposal, valid in zip(proposals, selection.valid, strict=True)
        if not valid
    ]
    return duels, one_text
