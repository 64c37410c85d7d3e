"""What an update minimises and reports, of each pair or candidate. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy_update.batching import ResponseBatch
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.objectives.losses import PairLogProbs, label_loss
from rllib_sea.policy_update.objectives.optimism import OPTIMISM
from rllib_sea.policy_update.objectives.reinforce import reinforce
from rllib_sea.policy_update.scores import CandidateAdvantages

# What is averaged over the pairs that are no ties: a tie has no side to be right about.
OF_DECIDED_PAIRS = ("margin", "accuracy")


def pair_terms(
    pairs: Sequence[PreferencePair], logps: PairLogProbs, config: PolicyTrainConfig
) -> dict[str, torch.Tensor]:
    """Of pairs.

    Args:
        pairs: B pairs.
        logps: Theirs.
        config: The loss and its options, and those of the optimism term.

    Returns:
        (B,) tensors by name: ``loss``, which is minimised, and what is reported beside it.
    """
    preference, weight = logps.chosen.new_tensor([(p.preference, p.weight) for p in pairs]).T
    device = logps.chosen.device
    tie = torch.tensor([pair.is_tie for pair in pairs], device=device)
    margin = torch.where(tie, 0.0, logps.margin())
    terms = {
        "loss": label_loss(
            config.loss,
            logps,
            config.beta,
            config.loss_config,
            preference=preference,
            weight=weight,
            ties=config.ties,
            tie_margin=config.tie_margin,
        ),
        "margin": margin,
        "accuracy": (margin > 0).float(),
        "chosen_logp": logps.chosen,
        "rejected_logp": logps.rejected,
    }
    if config.optimism is not None:
        chosen = [pair.from_reference == "chosen" for pair in pairs]
        term = OPTIMISM[config.optimism]
        terms["optimism"] = config.optimism_alpha * term(
            logps, torch.tensor(chosen, device=device), config.beta
        )
        terms["loss"] = terms["loss"] + terms["optimism"]
    return terms


def pair_log_probs(
    policy: torch.Tensor, reference: torch.Tensor, batch: ResponseBatch
) -> PairLogProbs:
    """Log-probabilities of responses (2 B,), pair by pair."""
    return PairLogProbs(
        chosen=policy[0::2],
        rejected=policy[1::2],
        reference_chosen=reference[0::2],
        reference_rejected=reference[1::2],
        chosen_lengths=batch.lengths[0::2],
        rejected_lengths=batch.lengths[1::2],
    )


def candidate_terms(
    prompts: Sequence[CandidateAdvantages], log_probs: torch.Tensor, kl: torch.Tensor, beta: float
) -> dict[str, torch.Tensor]:
    """Of candidates, with REINFORCE.

    Args:
        prompts: S candidates in all.
        log_probs: (S,) log pi(y|x), summed over tokens.
        kl: (S,) divergences from the reference policy, in nats.
        beta: The weight of ``kl``.

    Returns:
        (S,) tensors by name: ``loss``, which is minimised, ``kl``, and ``advantage`` without its
        sign.
    """
    advantage = log_probs.new_tensor([a for prompt in prompts for a in prompt.advantages])
    loss = reinforce(log_probs, kl, advantage, beta)
    return {"loss": loss, "kl": kl, "advantage": advantage.abs()}
