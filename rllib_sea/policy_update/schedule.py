"""The learning rate of each round: a pure function."""

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
