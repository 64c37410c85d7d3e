"""Text duels as Gymnasium environments: a prompt, two responses, one preference label."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from text_duel.config import validate_env_config
from text_duel.env import PASS, TextDuelEnv, TextDuelVectorEnv
from text_duel.errors import BrokenOracleError, ConfigError, OracleError, UnanswerableError
from text_duel.oracles import (
    AsyncOracle,
    LengthOracle,
    Oracle,
    ScoringOracle,
    ask_oracle,
    check_oracle,
    make_oracle,
)
from text_duel.prompts import Prompt, load_prompts, prompt_options
from text_duel.verdicts import Label, Verdict

if TYPE_CHECKING:
    from text_duel.oracles.embedding import EmbeddingOracle
    from text_duel.oracles.reward_model import RewardModelOracle

# Imported if they are used: they need torch and transformers.
_MODELS = {
    "EmbeddingOracle": "text_duel.oracles.embedding",
    "RewardModelOracle": "text_duel.oracles.reward_model",
}


def __getattr__(name: str) -> Any:
    if name in _MODELS:
        return getattr(import_module(_MODELS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


gym.register(
    id="text_duel/TLDR-v0",
    entry_point="text_duel.env:TextDuelEnv",
    vector_entry_point="text_duel.env:TextDuelVectorEnv",
)

__all__ = [
    "PASS",
    "AsyncOracle",
    "BrokenOracleError",
    "ConfigError",
    "EmbeddingOracle",
    "Label",
    "LengthOracle",
    "Oracle",
    "OracleError",
    "Prompt",
    "RewardModelOracle",
    "ScoringOracle",
    "TextDuelEnv",
    "TextDuelVectorEnv",
    "UnanswerableError",
    "Verdict",
    "ask_oracle",
    "check_oracle",
    "load_prompts",
    "make_oracle",
    "prompt_options",
    "validate_env_config",
]
