"""Proposals to test strategies on, and plain-loop versions of every deterministic rule."""

from __future__ import annotations

import numpy as np
import torch

from rllib_sea.exploration import STRATEGIES, Proposals, text_identities


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def proposals(
    rewards: torch.Tensor,
    texts: torch.Tensor | None = None,
    *,
    implicit_rewards: torch.Tensor | None = None,
    log_probs: torch.Tensor | None = None,
    from_reference: torch.Tensor | None = None,
) -> Proposals:
    """Proposals with given rewards (K, B, M); all texts differ unless given."""
    _, num_prompts, num_candidates = rewards.shape
    if texts is None:
        texts = torch.arange(num_candidates).expand(num_prompts, -1)
    if from_reference is None:
        from_reference = torch.zeros(num_candidates, dtype=torch.bool)
    if log_probs is None:
        log_probs = torch.zeros(num_prompts, num_candidates)
    finished = torch.ones(num_prompts, num_candidates, dtype=torch.bool)
    return Proposals(rewards, texts, log_probs, implicit_rewards, from_reference, finished)


def random_proposals(
    name: str,
    seed: int,
    *,
    num_members: int = 5,
    num_prompts: int = 4,
    num_candidates: int = 6,
    num_texts: int = 4,
) -> Proposals:
    """What strategy ``name`` needs; some candidates of a prompt are the same text.

    Equal texts have equal rewards, as they have equal features; the policy's numbers differ
    even there, since one text may be sampled as different tokens.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, num_texts, size=(num_prompts, num_candidates))
    texts = text_identities([[f"text {n}" for n in row] for row in numbers])
    by_text = torch.from_numpy(rng.normal(size=(num_members, num_prompts, num_candidates)))
    reference = torch.arange(num_candidates) >= (num_candidates + 1) // 2
    strategy = STRATEGIES[name]
    return proposals(
        by_text.gather(2, texts.expand(num_members, -1, -1)),
        texts,
        log_probs=torch.from_numpy(rng.normal(size=texts.shape)),
        implicit_rewards=torch.from_numpy(rng.normal(size=texts.shape))
        if strategy.needs_implicit_rewards
        else None,
        from_reference=reference if strategy.reference_candidates else None,
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def value_of_pair(name: str, case: Proposals, b: int, i: int, j: int) -> float:
    """What a pair rule maximises, with its default options."""
    rewards = case.rewards[:, b].numpy().astype(np.float64)
    difference = rewards[:, i] - rewards[:, j]
    if name == "uncertainty":
        return float(np.var(difference))
    if name == "infomax":
        return float(np.var(sigmoid(difference)))
    if name == "delta_ucb":
        relative = rewards - rewards.mean(axis=1, keepdims=True)
        mean, spread = relative.mean(axis=0), relative.std(axis=0)
        return float((mean[i] + spread[i]) - (mean[j] - spread[j]))
    assert name == "apl"
    assert case.implicit_rewards is not None
    return abs(float(case.implicit_rewards[b, i] - case.implicit_rewards[b, j]))


def legal_pairs(name: str, case: Proposals, b: int) -> list[tuple[int, int]]:
    """The pairs that a strategy may select at all."""
    texts, reference = case.texts[b].tolist(), case.from_reference.tolist()
    pairs = [(i, j) for i in range(len(texts)) for j in range(len(texts)) if texts[i] != texts[j]]
    if name == "xpo":
        return [(i, j) for i, j in pairs if i == reference.index(False) and reference[j]]
    return pairs


def maxmin_lcb_by_loops(case: Proposals, b: int, confidence: float) -> tuple[int, int, bool]:
    """First, second and clash of maxmin_lcb, with the paper's set of candidates that stay."""
    rewards, texts = case.rewards[:, b].numpy().astype(np.float64), case.texts[b].tolist()
    count = len(texts)

    def bound(i: int, j: int, sign: int) -> float:
        difference = rewards[:, i] - rewards[:, j]
        return float(difference.mean() + sign * confidence * difference.std())

    stays = [i for i in range(count) if all(bound(i, j, +1) > -1e-12 for j in range(count))]
    pairs = [(i, j) for i in stays for j in stays if texts[i] != texts[j]]
    if not pairs:
        first = stays[0]
        others = [j for j in range(count) if texts[j] != texts[first]]
        return first, min(others, key=lambda j: bound(first, j, -1)), True

    def rival(i: int) -> int:
        return min((j for k, j in pairs if k == i), key=lambda j: bound(i, j, -1))

    first = max(sorted({i for i, _ in pairs}), key=lambda i: bound(i, rival(i), -1))
    return first, rival(first), False


def permuted(case: Proposals, order: torch.Tensor) -> Proposals:
    """The same candidates in another order."""
    implicit = case.implicit_rewards
    return Proposals(
        rewards=case.rewards[:, :, order],
        texts=case.texts[:, order],
        log_probs=case.log_probs[:, order],
        implicit_rewards=None if implicit is None else implicit[:, order],
        from_reference=case.from_reference[order],
        finished=case.finished[:, order],
    )
