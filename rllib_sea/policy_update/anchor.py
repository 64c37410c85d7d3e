"""The moving anchor of REINFORCE's KL term: an exponential moving average of the policy."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from rllib_sea.policy.model_folder import load_policy, replace_weights, weights_of
from rllib_sea.policy_update.logprobs import ResponseLogits

ANCHOR_FILE = "anchor.pt"


class Anchor:
    """``theta_bar <- eta theta_bar + (1 - eta) theta``, after each step.

    That of "Efficient Exploration at Scale" (arXiv 2603.17378), which publishes no eta. The pull is
    then towards where the policy was a few steps ago: it limits how fast the policy goes, and not
    how far. In float32 whatever the policy computes in, since bf16 would round most of an
    average's steps away.

    Args:
        policy: The policy, of which every worker has all weights.
        model_path: The initial policy's folder, where the average begins.
        decay: eta, in [0, 1).
        bf16: Whether the policy computes in bf16.
    """

    def __init__(
        self,
        policy: transformers.PreTrainedModel,
        model_path: str,
        decay: float,
        *,
        bf16: bool,
    ) -> None:
        self._policy = policy
        self._decay = decay
        anchor = load_policy(model_path, torch.float32).to(policy.device)
        self.logits = ResponseLogits(anchor, bf16=bf16)
        self.logits.requires_grad_(False)

    @torch.no_grad()
    def follow(self) -> None:
        """Takes the policy's weights after a step into the average."""
        policy = weights_of(self._policy)
        for name, mean in weights_of(self.logits.model).items():
            if mean.is_floating_point():
                mean.lerp_(policy[name], 1.0 - self._decay)

    def save(self, folder: Path) -> None:
        """Writes the average beside the model's own weights; for one worker to call."""
        torch.save(weights_of(self.logits.model), folder / ANCHOR_FILE)

    def load(self, folder: Path) -> None:
        """Goes on from a folder that :meth:`save` wrote to."""
        file, device = folder / ANCHOR_FILE, str(self._policy.device)
        replace_weights(self.logits.model, torch.load(file, map_location=device, weights_only=True))
