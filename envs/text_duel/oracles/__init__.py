"""Oracles: who says which of two responses is preferred.

To add one, subclass :class:`Oracle` (or :class:`ScoringOracle`) and name it in
:data:`ORACLES`; one's own, outside the package, is named ``"module:Class"``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from text_duel.errors import ConfigError, nearest
from text_duel.oracles.base import Oracle, ScoringOracle, checked_comparison
from text_duel.oracles.check import check_oracle
from text_duel.oracles.embedding import EmbeddingOracle
from text_duel.oracles.length import LengthOracle
from text_duel.oracles.reward_model import RewardModelOracle

ORACLES: dict[str, type[Oracle]] = {
    "embedding": EmbeddingOracle,
    "length": LengthOracle,
    "reward_model": RewardModelOracle,
}


def oracle_class(name: str) -> type[Oracle]:
    """The class of an oracle's name.

    Raises:
        ConfigError: Where there is no such oracle.
    """
    if name in ORACLES:
        return ORACLES[name]
    module_name, _, class_name = str(name).partition(":")
    if not class_name:
        raise ConfigError(
            f"oracle: {name!r} is none of {', '.join(ORACLES)} and no 'module:Class'"
            f"{nearest(str(name), ORACLES)}"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"oracle: {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Oracle)):
        raise ConfigError(f"oracle: {name!r} is no subclass of text_duel.Oracle")
    return found


def check_oracle_config(name: str, config: Mapping[str, Any] | None) -> None:
    """Checks the keys of an oracle's configuration; makes no oracle.

    Raises:
        ConfigError: For a key that the oracle does not take, or one that it needs.
    """
    parameters = dict(inspect.signature(oracle_class(name)).parameters)
    for key in config or {}:
        if key not in parameters:
            raise ConfigError(
                f"oracle_config: oracle {name!r} has no key {key!r}{nearest(key, parameters)}"
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in (config or {}):
            raise ConfigError(f"oracle_config: oracle {name!r} needs the key {key!r}")


def make_oracle(name: str, config: Mapping[str, Any] | None = None) -> Oracle:
    """Makes an oracle.

    Args:
        name: A name of :data:`ORACLES`, or ``"module:Class"``.
        config: The constructor's arguments.

    Raises:
        ConfigError: For an unknown name or key, or a bad value.
    """
    check_oracle_config(name, config)
    return oracle_class(name)(**(config or {}))


__all__ = [
    "ORACLES",
    "EmbeddingOracle",
    "LengthOracle",
    "Oracle",
    "RewardModelOracle",
    "ScoringOracle",
    "check_oracle",
    "check_oracle_config",
    "checked_comparison",
    "make_oracle",
    "oracle_class",
]
