"""From a round's proposals to its duels: which pair, and who labels it.

The rules themselves are pure functions of tensors (:mod:`rllib_sea.exploration`,
:mod:`rllib_sea.exploration.mixing`); here their choices become records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rllib_sea.duels.plan import RoundPlan
from rllib_sea.duels.records import Candidate, Duel
from rllib_sea.duels.rounds import Proposal
from rllib_sea.exploration import STRATEGIES, Proposals, text_identities
from rllib_sea.exploration.mixing import CUT_WINNER, DISAGREEMENT, mix
from rllib_sea.exploration.prompt_acquisition import ACQUISITIONS, choose_prompts
from rllib_sea.randomness import Stream, generators
from rllib_sea.settings.duels import Duels
from text_duel.verdicts import Label

# Why a prompt gives no duel.
INCOMPLETE, NON_FINITE, ONE_TEXT = "incomplete", "non_finite", "one_text"
SKIP_REASONS = {
    INCOMPLETE: "fewer than num_candidates responses, or one without tokens",
    NON_FINITE: "an ERM reward that is not finite",
    ONE_TEXT: "all responses that could duel are the same text",
    DISAGREEMENT: "the ERM would label it, and too few of its members agree (synthetic_agreement)",
    CUT_WINNER: "the ERM would label it, and prefers a response that was cut (synthetic_cut_wins)",
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
        synthetic: Whether the ERM labels it.
        audited: See :class:`rllib_sea.duels.records.Duel`.
        own_preference: The ERM's label of a synthetic duel: how probably the first response is
            preferred, in [0, 1].
    """

    proposal: Proposal
    first: int
    second: int
    member: int
    clash: bool
    synthetic: bool
    audited: bool
    own_preference: float

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
            label: The oracle's; None for a synthetic duel, which has the ERM's.
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
            audited=self.audited,
            label=Label(self.own_preference) if label is None else label,
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
        finished=torch.tensor(
            [[c.finish_reason == "stop" for c in p.candidates] for p in proposals]
        ),
    )


def select_duels(
    proposals: Sequence[Proposal],
    implicit_rewards: np.ndarray | None,
    *,
    keys: Duels,
    plan: RoundPlan,
    seed: int,
    round_index: int,
) -> tuple[list[SelectedDuel], dict[str, list[str]]]:
    """Selects a pair for each prompt, and says which pairs the ERM labels.

    Args:
        proposals: B usable ones.
        implicit_rewards: (B, M) in nats, if strategy or acquisition need them.
        keys: How pairs are selected, and labelled by the ERM.
        plan: The round's.
        seed: The run's seed.
        round_index: The round.

    Returns:
        The duels in the order of their prompts, and the ids of all prompts that have none, by the
        reason; a reason that cannot be is missing.
    """
    skipped: dict[str, list[str]] = {ONE_TEXT: []}
    if keys.synthetic_agreement > 0:
        skipped[DISAGREEMENT] = []
    if not keys.synthetic_cut_wins:
        skipped[CUT_WINNER] = []
    if not proposals:
        return [], skipped
    view = stack(proposals, implicit_rewards)
    positions = [proposal.position for proposal in proposals]
    selection = STRATEGIES[keys.exploration_strategy].select(
        view, generators(seed, round_index, positions, Stream.SELECTION), **keys.strategy_config
    )
    mixed = mix(
        selection,
        view,
        keys,
        synthetic=[plan.synthetic[position] for position in positions],
        audited=[plan.audited[position] for position in positions],
        rngs=generators(seed, round_index, positions, Stream.SYNTHETIC_LABEL),
    )
    kept = list(range(len(proposals)))
    if keys.prompt_acquisition is not None:
        scores = ACQUISITIONS[keys.prompt_acquisition].score(view, selection)
        valid = torch.from_numpy(selection.valid)
        kept = choose_prompts(scores, valid, plan.num_duels).tolist()
    for i, proposal in enumerate(proposals):
        reason = mixed.dropped[i] if selection.valid[i] else ONE_TEXT
        if reason is not None:
            skipped[reason].append(proposal.prompt_id)
    duels = [
        SelectedDuel(
            proposal=proposals[i],
            first=int(mixed.first[i]),
            second=int(mixed.second[i]),
            member=int(mixed.member[i]),
            clash=bool(selection.clash[i]),
            synthetic=plan.synthetic[positions[i]],
            audited=bool(mixed.audited[i]),
            own_preference=float(mixed.preference[i]),
        )
        for i in kept
        if selection.valid[i] and mixed.dropped[i] is None
    ]
    return duels, skipped
