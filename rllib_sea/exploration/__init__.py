"""Which two of M candidates are worth a label: pure functions, no Ray.

A strategy maps proposals (B prompts, M candidates each) to two candidate indices per prompt.
To add one, write a file beside the others and name its function in :data:`STRATEGIES`.
"""

from __future__ import annotations

from rllib_sea.exploration.apl import apl
from rllib_sea.exploration.bai_ts import bai_ts, check_variance
from rllib_sea.exploration.base import Proposals, Selection, Strategy, text_identities
from rllib_sea.exploration.bounds import check_confidence
from rllib_sea.exploration.delta_ucb import delta_ucb
from rllib_sea.exploration.drts import drts
from rllib_sea.exploration.ee_ts import ee_ts
from rllib_sea.exploration.infomax import infomax
from rllib_sea.exploration.maxmin_lcb import maxmin_lcb
from rllib_sea.exploration.passive import passive
from rllib_sea.exploration.random_pair import random_pair
from rllib_sea.exploration.uncertainty import uncertainty
from rllib_sea.exploration.xpo import xpo

STRATEGIES: dict[str, Strategy] = {
    "apl": Strategy(apl, needs_implicit_rewards=True, losses=("dpo",)),
    "bai_ts": Strategy(bai_ts, check_variance),
    "delta_ucb": Strategy(delta_ucb, check_confidence),
    "drts": Strategy(drts),
    "ee_ts": Strategy(ee_ts),
    "infomax": Strategy(infomax),
    "maxmin_lcb": Strategy(maxmin_lcb, check_confidence),
    "passive": Strategy(passive),
    "random": Strategy(random_pair),
    "uncertainty": Strategy(uncertainty),
    "xpo": Strategy(xpo, reference_candidates=True, losses=("dpo",)),
}

__all__ = ["STRATEGIES", "Proposals", "Selection", "Strategy", "text_identities"]
