"""Which two of M candidates are worth a label: pure functions, no Ray.

A strategy maps ensemble rewards (K, B, M) to two candidate indices a prompt. To add one,
write a file beside the others and name its function in :data:`STRATEGIES`.
"""

from __future__ import annotations

from rllib_sea.exploration.bai_ts import bai_ts
from rllib_sea.exploration.base import Selection, Strategy, text_identities
from rllib_sea.exploration.ee_ts import ee_ts
from rllib_sea.exploration.passive import passive

STRATEGIES: dict[str, Strategy] = {
    "bai_ts": bai_ts,
    "ee_ts": ee_ts,
    "passive": passive,
}

__all__ = ["STRATEGIES", "Selection", "Strategy", "bai_ts", "ee_ts", "passive", "text_identities"]
