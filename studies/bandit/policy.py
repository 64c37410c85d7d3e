"""A softmax policy over the response set, trained by the plugin's direct losses."""

from __future__ import annotations

import torch
from torch import nn

from rllib_sea.policy_update.objectives.losses import PairLogProbs, label_loss
from rllib_sea.policy_update.objectives.optimism import OPTIMISM
from rllib_sea.policy_update.objectives.reinforce import reinforce
from studies.bandit.environment import FEATURE_DIM, World

HIDDEN = 32


class SoftmaxPolicy:
    """``pi(y|x) = softmax(log pi_ref(y|x) + network(x, y))``; at first it is pi_ref.

    Args:
        world: The bandit.
        lr: Adam's; its other settings are those of the plugin.
        seed: Of the network's weights.

    Attributes:
        network: Of prompt and response; its last layer begins at zero.
    """

    def __init__(self, world: World, lr: float, seed: int) -> None:
        self._lr = lr
        self._reference = world.reference_log_probs
        self._features = world.all_features(torch.arange(len(self._reference)))
        first, second, last = (
            nn.Linear(FEATURE_DIM, HIDDEN),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Linear(HIDDEN, 1),
        )
        rng = torch.Generator().manual_seed(seed)
        for layer in (first, second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)
        nn.init.zeros_(last.weight)
        for layer in (first, second, last):
            nn.init.zeros_(layer.bias)
        self.network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), lr=lr, betas=(0.9, 0.95), fused=True
        )

    def log_probs(self, prompts: torch.Tensor) -> torch.Tensor:
        """(B, R) log pi(y|x) for prompts (B,)."""
        learned = self.network(self._features[prompts]).squeeze(-1)
        return (self._reference[prompts] + learned).log_softmax(dim=1)

    def update(
        self,
        prompts: torch.Tensor,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        *,
        preference: torch.Tensor,
        rate_share: float = 1.0,
        loss: str,
        beta: float,
        optimism: str | None = None,
        optimism_alpha: float = 0.0,
        chosen_from_reference: torch.Tensor | None = None,
    ) -> None:
        """One step of the direct loss (SEA, Algorithm 2, line 8).

        Args:
            prompts: (B,) indices.
            chosen: (B,) indices of the preferred responses.
            rejected: (B,) indices of the others.
            preference: (B,) how probably the preferred ones are preferred, in [0.5, 1].
            rate_share: Of the learning rate.
            loss: A name of :data:`rllib_sea.policy_update.objectives.losses.LOSSES`.
            beta: The loss's.
            optimism: A name of :data:`rllib_sea.policy_update.objectives.optimism.OPTIMISM`.
            optimism_alpha: Its weight.
            chosen_from_reference: (B,) bool, for the optimism term.
        """
        log_probs = self.log_probs(prompts)
        reference = self._reference[prompts]
        one_token = torch.ones(len(prompts))
        pairs = PairLogProbs(
            chosen=log_probs.gather(1, chosen[:, None])[:, 0],
            rejected=log_probs.gather(1, rejected[:, None])[:, 0],
            reference_chosen=reference.gather(1, chosen[:, None])[:, 0],
            reference_rejected=reference.gather(1, rejected[:, None])[:, 0],
            chosen_lengths=one_token,
            rejected_lengths=one_token,
        )
        total = label_loss(
            loss,
            pairs,
            beta,
            {},
            preference=preference,
            weight=torch.ones(len(prompts)),
            ties="drop",
            tie_margin=None,
        )
        if optimism is not None:
            assert chosen_from_reference is not None
            total = total + optimism_alpha * OPTIMISM[optimism](pairs, chosen_from_reference, beta)
        self._step(total.mean(), rate_share)

    def reinforce(
        self,
        prompts: torch.Tensor,
        pool: torch.Tensor,
        advantage: torch.Tensor,
        *,
        rate_share: float = 1.0,
        beta: float,
    ) -> None:
        """One step of REINFORCE on all candidates (arXiv 2603.17378).

        Args:
            prompts: (B,) indices.
            pool: (B, M) indices of the candidates.
            advantage: (B, M) how much better than the others each is.
            rate_share: Of the learning rate.
            beta: Strength of the pull towards the reference policy.
        """
        log_probs, reference = self.log_probs(prompts), self._reference[prompts]
        kl = (log_probs.exp() * (log_probs - reference)).sum(dim=1, keepdim=True)
        losses = reinforce(log_probs.gather(1, pool), kl.expand_as(pool), advantage, beta)
        self._step(losses.mean(), rate_share)

    def _step(self, loss: torch.Tensor, rate_share: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate_share * self._lr
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
