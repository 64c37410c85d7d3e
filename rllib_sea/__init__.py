"""rllib-sea: sample-efficient alignment of language models, as an RLlib algorithm.

Importing the package makes ``"SEA"`` known to Ray Tune, and ``"text_duel/TLDR-v0"`` to
Gymnasium and RLlib.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from ray.tune import register_env, register_trainable

import text_duel
from rllib_sea.config import SEAConfig
from rllib_sea.sea import SEA


def _make_env(config: dict[str, Any]) -> gym.Env[Any, Any]:
    return gym.make("text_duel/TLDR-v0", **config)


register_trainable("SEA", SEA)
register_env("text_duel/TLDR-v0", _make_env)

__all__ = ["SEA", "SEAConfig", "text_duel"]
