"""The learning rate of each step: pure functions."""

from __future__ import annotations

import math

FLOOR = 0.1  # cosine ends at this share of the peak (SEA, appendix)
SCHEDULES = ("constant", "cosine")


def learning_rate(
    step: int, peak: float, schedule: str, total_steps: int | None, warmup_ratio: float
) -> float:
    """The learning rate of a step.

    It rises linearly over the first ``warmup_ratio * total_steps`` steps, to ``peak`` at the
    last of them; then it stays (``"constant"``), or falls on a half cosine to a tenth of the
    peak at the last step (``"cosine"``) and stays there.

    Args:
        step: From 0.
        peak: The largest rate.
        schedule: ``"constant"`` or ``"cosine"``.
        total_steps: Steps of the run; None means unknown, with a constant rate and no warm-up.
        warmup_ratio: In [0, 1].
    """
    if total_steps is None:
        return peak
    warmup = round(warmup_ratio * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    progress = min(1.0, (step - warmup) / max(1, total_steps - 1 - warmup))
    return peak * (FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * progress)))


MOST_AT_ONCE = 0.2  # by which share the controller changes the rate at most


def controlled_share(share: float, kl: float, target: float) -> float:
    """The share of the scheduled rate that a controller lets through, from one step to the next.

    ``share / (1 + clip(kl / target - 1, -0.2, 0.2))``, and never above 1. It is the adaptive
    controller of "Fine-Tuning Language Models from Human Preferences" (arXiv 1909.08593, section
    2.2), as OpenRLHF and verl have it, with one step for its horizon; there it moves the weight of
    a KL penalty. A direct loss has none, and Adam divides a loss's scale out: here it moves the
    rate.

    Args:
        share: That of the step before, in (0, 1]; 1 at first.
        kl: Divergence before the step, in nats per response.
        target: What it may be by now, above 0.
    """
    error = min(max(kl / target - 1.0, -MOST_AT_ONCE), MOST_AT_ONCE)
    return min(1.0, share / (1.0 + error))
