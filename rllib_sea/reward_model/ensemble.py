"""The ensemble of reward heads and its loss: plain torch, no Ray."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rllib_sea.preference_models import bradley_terry_win

# Keeps the draws of the prior functions apart from those of the initial weights.
_PRIOR_STREAM = 1


class EnsembleMLP(nn.Module):
    """K multi-layer perceptrons with one reward each, computed as one batched product.

    All members read the same features. The initial weights are kept as buffers, so that
    they travel with the state: the regulariser needs them (SEA, Eq. 8).

    With a ``prior_scale`` each member has a fixed random function of its own beside what it
    learns (randomised prior functions, arXiv 1806.03335)::

        r_k(x) = trainable_k(x) + prior_scale * prior_k(x)

    so that members differ wherever no label has made them agree. The priors are buffers: they
    travel with the state and are never trained. They are drawn so that on features of root
    mean square 1 the rewards ``prior_k(x)`` have standard deviation 1 over members.

    Args:
        num_members: K, at least 1.
        feature_dim: d, size of a feature vector.
        hidden: Widths of the hidden layers.
        seed: Of the initial weights and, in a stream of their own, of the priors.
        prior_scale: Weight of the priors; 0, as in SEA, makes none.
        prior_hidden: Widths of the priors' hidden layers.
    """

    def __init__(
        self,
        num_members: int,
        feature_dim: int,
        hidden: Sequence[int] = (128, 128),
        seed: int = 0,
        *,
        prior_scale: float = 0.0,
        prior_hidden: Sequence[int] = (64, 64),
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
        self._prior_scale = prior_scale
        self._num_prior_layers = len(prior_hidden) + 1
        if prior_scale != 0:
            self._make_priors(prior_hidden, seed)

    def _make_priors(self, hidden: Sequence[int], seed: int) -> None:
        """Draws the priors' weights; they have no biases.

        Without biases and with the gain that makes up for the ReLUs (He et al.,
        arXiv 1502.01852), the rewards' mean square over priors is that of the features.
        """
        rng = torch.Generator().manual_seed(_derived_seed(seed, _PRIOR_STREAM))
        widths = [self.feature_dim, *hidden, 1]
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            gain = math.sqrt(2.0) if i < len(hidden) else 1.0
            weight = torch.randn(self.num_members, fan_in, fan_out, generator=rng)
            self.register_buffer(f"prior_weights_{i}", weight * (gain / math.sqrt(fan_in)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Rewards of all members.

        Args:
            features: (N, d).

        Returns:
            (K, N).
        """
        features = features.expand(self.num_members, -1, -1)
        hidden = features
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if i < last:
                hidden = functional.relu(hidden)
        rewards = hidden.squeeze(-1)
        if self._prior_scale == 0:
            return rewards
        return rewards + self._prior_scale * self._priors(features)

    def _priors(self, features: torch.Tensor) -> torch.Tensor:
        """(K, N) rewards by the priors, of features (K, N, d)."""
        hidden = features
        for i in range(self._num_prior_layers):
            hidden = torch.bmm(hidden, self.get_buffer(f"prior_weights_{i}"))
            if i < self._num_prior_layers - 1:
                hidden = functional.relu(hidden)
        return hidden.squeeze(-1)

    def squared_distance_from_start(self) -> torch.Tensor:
        """(K,) squared Euclidean distance of each member from its own initial weights."""
        total = torch.zeros(self.num_members, device=self.weights[0].device)
        for name, parameter in self.named_parameters():
            start = self.get_buffer(f"initial_{name.replace('.', '_')}")
            # One fused pass there and one back: the plain expression takes four times as long.
            squares = functional.mse_loss(parameter, start, reduction="none")
            total = total + squares.flatten(1).sum(1)
        return total


def _derived_seed(seed: int, stream: int) -> int:
    """A seed for another use of the same seed."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


def member_nll(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    masks: torch.Tensor | None = None,
    nll: Callable[[torch.Tensor], torch.Tensor] = bradley_terry_win,
) -> torch.Tensor:
    """Negative log-likelihood of labels under each member (SEA, Eq. 7).

    ``-log sigmoid(r_k(x, y+) - r_k(x, y-))``, averaged over the labels that the member learns from:
    the sum is divided by their number, whatever they weigh.

    Args:
        chosen: (K, N) rewards of the preferred responses.
        rejected: (K, N) rewards of the others.
        masks: (N, K) bool, which members learn from each label; None: all from all.
        nll: What a label costs, by the difference of its rewards: (K, N) to (K, N). The default
            is that of labels of weight 1 that leave no doubt.

    Returns:
        (K,) in nats; 0 for a member that learns from none of the labels.
    """
    losses = nll(chosen - rejected)
    if masks is None:
        return losses.mean(dim=1)
    own = masks.T.to(losses.dtype)
    return (losses * own).sum(dim=1) / own.sum(dim=1).clamp(min=1.0)


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
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    squared_distance: torch.Tensor,
    strength: float | torch.Tensor,
    masks: torch.Tensor | None = None,
    nll: Callable[[torch.Tensor], torch.Tensor] = bradley_terry_win,
) -> torch.Tensor:
    """``sum_k [ NLL_k + strength * ||phi_k - phi_k^0||^2 ]`` (SEA, Eq. 8, sign corrected).

    Args:
        chosen: (K, N) rewards of the preferred responses.
        rejected: (K, N) rewards of the others.
        squared_distance: (K,) from :meth:`EnsembleMLP.squared_distance_from_start`.
        strength: From :func:`regularisation_strength`.
        masks: (N, K) bool, which members learn from each label; None: all from all.
        nll: As in :func:`member_nll`.

    Returns:
        A scalar.
    """
    return (member_nll(chosen, rejected, masks, nll) + strength * squared_distance).sum()
