"""The ensemble of reward heads and its loss: plain torch, no Ray."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class EnsembleMLP(nn.Module):
    """K multi-layer perceptrons with one reward each, computed as one batched product.

    All members read the same features. The initial weights are kept as buffers, so that
    they travel with the state: the regulariser needs them (SEA, Eq. 8).

    Args:
        num_members: K, at least 1.
        feature_dim: d, size of a feature vector.
        hidden: Widths of the hidden layers.
        seed: Of the initial weights.
    """

    def __init__(
        self, num_members: int, feature_dim: int, hidden: Sequence[int] = (128, 128), seed: int = 0
    ) -> None:
        super().__init__()
        self.num_members = num_members
        self.feature_dim = feature_dim
        widths = [feature_dim, *hidden, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        rng = torch.Generator().manual_seed(seed)
        for fan_in, fan_out in itertools.pairwise(widths):
            std = 1.0 / (2.0 * math.sqrt(fan_in))
            weight = torch.empty(num_members, fan_in, fan_out)
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=rng)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(num_members, 1, fan_out)))
        for name, parameter in list(self.named_parameters()):
            self.register_buffer(f"initial_{name.replace('.', '_')}", parameter.detach().clone())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Rewards of all members.

        Args:
            features: (N, d).

        Returns:
            (K, N).
        """
        hidden = features.expand(self.num_members, -1, -1)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if i < last:
                hidden = functional.relu(hidden)
        return hidden.squeeze(-1)

    def squared_distance_from_start(self) -> torch.Tensor:
        """(K,) squared Euclidean distance of each member from its own initial weights."""
        total = torch.zeros(self.num_members, device=self.weights[0].device)
        for name, parameter in self.named_parameters():
            start = self.get_buffer(f"initial_{name.replace('.', '_')}")
            total = total + (parameter - start).square().flatten(1).sum(1)
        return total


def bradley_terry_nll(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of labels under each member (SEA, Eq. 7).

    ``-log sigmoid(r_k(x, y+) - r_k(x, y-))``, averaged over the pairs.

    Args:
        chosen: (K, N) rewards of the preferred responses.
        rejected: (K, N) rewards of the others.

    Returns:
        (K,) in nats.
    """
    return functional.softplus(rejected - chosen).mean(dim=1)


def regularisation_strength(
    erm_lambda: float, minibatch_size: int, num_oracle_queries: int, fade: bool
) -> float:
    """Weight of the pull towards the initial weights.

    Args:
        erm_lambda: lambda of SEA, Eq. 8 (0.5 in the experiments).
        minibatch_size: Labels in one ERM minibatch.
        num_oracle_queries: Labels so far, at least 1.
        fade: Scale by ``minibatch_size / num_oracle_queries``, as the authors' code does,
            so that the prior fades as data comes in (the loss is a mean over a minibatch,
            the prior belongs to the whole data set). False keeps lambda fixed.
    """
    if not fade:
        return erm_lambda
    return erm_lambda * min(1.0, minibatch_size / num_oracle_queries)


def ensemble_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, squared_distance: torch.Tensor, strength: float
) -> torch.Tensor:
    """``sum_k [ NLL_k + strength * ||phi_k - phi_k^0||^2 ]`` (SEA, Eq. 8, sign corrected).

    Args:
        chosen: (K, N) rewards of the preferred responses.
        rejected: (K, N) rewards of the others.
        squared_distance: (K,) from :meth:`EnsembleMLP.squared_distance_from_start`.
        strength: From :func:`regularisation_strength`.

    Returns:
        A scalar.
    """
    return (bradley_terry_nll(chosen, rejected) + strength * squared_distance).sum()
