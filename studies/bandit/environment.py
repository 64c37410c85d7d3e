"""Contextual duelling over a finite response set, with everything about it known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from rllib_sea.randomness import Stream, generator

CONTEXT_DIM, RESPONSE_DIM = 8, 16
FEATURE_DIM = CONTEXT_DIM + RESPONSE_DIM
TEACHER_WIDTH = 16
TEACHER_GAIN = 2.0
CONTEXT_GAIN = 1.5  # rewards of the responses to two prompts then have a correlation of about 0.65


@dataclass(frozen=True)
class World:
    """What is true of one seed's bandit.

    Attributes:
        contexts: (C, 8) a vector for each prompt.
        responses: (R, 16) a vector for each response; every prompt has the same R responses.
        rewards: (2, C, R) hidden rewards r*(x, y), before and after a drift of preferences. For
            each prompt they span exactly the reward scale.
        reference_log_probs: (C, R) log pi_ref(y|x).
    """

    contexts: torch.Tensor
    responses: torch.Tensor
    rewards: torch.Tensor
    reference_log_probs: torch.Tensor

    def features(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """(..., 24) what policy and reward model see of pairs: both vectors, side by side.

        Args:
            prompts: (...) indices.
            responses: (...) indices.
        """
        return torch.cat([self.contexts[prompts], self.responses[responses]], dim=-1)

    def all_features(self, prompts: torch.Tensor) -> torch.Tensor:
        """(B, R, 24) the features of every response to prompts (B,)."""
        num = len(self.responses)
        return self.features(
            prompts[:, None].expand(-1, num), torch.arange(num).expand(len(prompts), -1)
        )

    def win_probabilities(self) -> torch.Tensor:
        """(2, C, R) the probability that a response beats one of the reference policy.

        ``sum_y' pi_ref(y'|x) sigmoid(r*(x, y) - r*(x, y'))``, exactly.
        """
        reference = self.reference_log_probs.exp()
        rows = [
            [
                torch.sigmoid(scores[:, None] - scores[None, :]) @ start
                for scores, start in zip(rewards, reference, strict=True)
            ]
            for rewards in self.rewards
        ]
        return torch.stack([torch.stack(row) for row in rows])


def make_world(
    seed: int,
    *,
    num_prompts: int = 64,
    num_responses: int = 400,
    reward_scale: float = 6.0,
    drift_angle: float = math.pi / 3,
) -> World:
    """Draws a bandit.

    The hidden reward is a random network of one tanh layer over both vectors, so that what is
    good depends on the prompt, and not linearly. After a drift it is turned by an angle
    towards that of another network: their correlation is about the angle's cosine. The
    reference policy has random logits of standard deviation about 1, of another network.

    Args:
        seed: Of everything.
        num_prompts: C.
        num_responses: R.
        reward_scale: Best less worst response of each prompt; with 400 responses about six
            standard deviations.
        drift_angle: By how much preferences drift, in radians.
    """
    rng = generator(seed, 0, 0, Stream.PROMPTS)
    contexts = rng.standard_normal((num_prompts, CONTEXT_DIM))
    responses = rng.standard_normal((num_responses, RESPONSE_DIM))
    before, other, start = (_teacher(contexts, responses, rng) for _ in range(3))
    after = math.cos(drift_angle) * before + math.sin(drift_angle) * other
    low_high = [
        (r.min(axis=1, keepdims=True), r.max(axis=1, keepdims=True)) for r in (before, after)
    ]
    rewards = [
        reward_scale * (r - low) / (high - low)
        for r, (low, high) in zip((before, after), low_high, strict=True)
    ]
    return World(
        contexts=torch.from_numpy(contexts).float(),
        responses=torch.from_numpy(responses).float(),
        rewards=torch.from_numpy(np.stack(rewards)).float(),
        reference_log_probs=torch.from_numpy(start).float().log_softmax(dim=1),
    )


def _teacher(contexts: np.ndarray, responses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(C, R) a random function of both vectors, of mean 0 and variance 1 for each prompt."""
    weight = rng.standard_normal((FEATURE_DIM, TEACHER_WIDTH)) * (
        TEACHER_GAIN / math.sqrt(FEATURE_DIM)
    )
    bias = rng.standard_normal(TEACHER_WIDTH)
    out = rng.standard_normal(TEACHER_WIDTH)
    first = CONTEXT_GAIN * (contexts @ weight[:CONTEXT_DIM])
    second = responses @ weight[CONTEXT_DIM:]
    values = np.tanh(first[:, None, :] + second[None, :, :] + bias) @ out
    values -= values.mean(axis=1, keepdims=True)
    return values / values.std(axis=1, keepdims=True)


@dataclass(frozen=True)
class Labeller:
    """The oracle of the bandit.

    Attributes:
        flip: The probability that a label is turned round.
        sharpness: How much of a difference of rewards it notices.
        deterministic: The better response wins; otherwise as Bradley and Terry have it,
            with probability ``sigmoid(sharpness * (r*(x, y) - r*(x, y')))``.
    """

    flip: float = 0.0
    sharpness: float = 1.0
    deterministic: bool = False

    def first_wins(self, first: np.ndarray, second: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """(B,) bool labels.

        Args:
            first: (B,) rewards of the first responses.
            second: (B,) rewards of the second responses.
            uniforms: (B, 2) draws from [0, 1): of the label and of its noise.
        """
        difference = first - second
        if self.deterministic:
            wins = difference > 0
        else:
            wins = uniforms[:, 0] < 1.0 / (1.0 + np.exp(-self.sharpness * difference))
        return wins ^ (uniforms[:, 1] < self.flip)


def expected_value(probabilities: torch.Tensor, values: torch.Tensor) -> float:
    """``mean_x sum_y pi(y|x) v(x, y)``: of win probabilities, the policy's win rate.

    Args:
        probabilities: (C, R) pi(y|x).
        values: (C, R).
    """
    return float((probabilities * values).sum(dim=1).mean())


def divergence(log_probs: torch.Tensor, reference: torch.Tensor) -> float:
    """``mean_x KL(pi(.|x) || pi_ref(.|x))`` in nats, exactly.

    Args:
        log_probs: (C, R) log pi(y|x).
        reference: (C, R) log pi_ref(y|x).
    """
    return float((log_probs.exp() * (log_probs - reference)).sum(dim=1).mean())


def best_of_n(probabilities: torch.Tensor, scores: torch.Tensor, n: int) -> torch.Tensor:
    """(C, R) the distribution of the best of n samples by a score, exactly.

    With responses in the order of their scores and ``F_j`` the probability of one of the first
    j, the best of n is the j-th with probability ``F_j^n - F_(j-1)^n``.

    Args:
        probabilities: (C, R) of one sample.
        scores: (C, R), what is maximised.
        n: Samples.
    """
    order = scores.argsort(dim=1)
    below = probabilities.double().gather(1, order).cumsum(dim=1).clamp(max=1.0).pow(n)
    ordered = torch.diff(below, dim=1, prepend=torch.zeros(len(below), 1, dtype=below.dtype))
    return torch.zeros_like(ordered).scatter(1, order, ordered).to(probabilities.dtype)


def regret(best: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(B,) ``r*(x, y*) - (r*(x, y) + r*(x, y')) / 2``, the immediate regret of duels.

    Args:
        best: (B,) reward of the best response, of all there are or of the candidates.
        first: (B,) reward of the first response.
        second: (B,) reward of the second response.
    """
    return best - (first + second) / 2.0
