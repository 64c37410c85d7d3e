"""Oracles: who says which of two responses is preferred.

To add one, subclass :class:`Oracle`, :class:`ScoringOracle` or :class:`AsyncOracle` and name it in
:data:`ORACLES`; one's own, outside the package, is named ``"module:Class"``.

What an oracle is made of is imported if it is used: a process that asks somebody else needs no
torch.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from text_duel.errors import ConfigError, nearest
from text_duel.oracles.base import (
    Answers,
    AnswersInPart,
    AsyncOracle,
    Oracle,
    ScoringOracle,
    ask_oracle,
    ask_oracle_in_part,
    check_shape,
    probability_of,
)
from text_duel.oracles.check import check_oracle
from text_duel.oracles.failures import is_final
from text_duel.oracles.length import LengthOracle

# By name, as "module:Class".
ORACLES = {
    "embedding": "text_duel.oracles.embedding:EmbeddingOracle",
    "length": "text_duel.oracles.length:LengthOracle",
    "people": "text_duel.oracles.people:PeopleOracle",
    "reader": "text_duel.oracles.reader:ReaderOracle",
    "reward_model": "text_duel.oracles.reward_model:RewardModelOracle",
}


def oracle_class(name: str) -> type[Oracle]:
    """The class of an oracle's name.

    Args:
        name: A name of :data:`ORACLES`, or ``"module:Class"`` of a module that can be imported.

    Raises:
        ConfigError: There is no such oracle.
    """
    if not isinstance(name, str):
        raise ConfigError(f"oracle: {name!r} is not text")
    module_name, _, class_name = ORACLES.get(name, name).partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
        raise ConfigError(
            f"oracle: {name!r} is none of {', '.join(ORACLES)} and no 'module:Class'"
            f"{nearest(name, ORACLES)}"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"oracle: {name!r} cannot be imported: {error} (looked on Python's module search "
            "path; PYTHONPATH adds folders to it)"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Oracle)):
        raise ConfigError(f"oracle: {name!r} is no subclass of text_duel.Oracle")
    return found


def check_oracle_config(name: str, config: Mapping[str, Any] | None) -> None:
    """Checks an oracle's configuration; loads no model.

    Args:
        name: As for :func:`oracle_class`.
        config: The constructor's arguments; None for none.

    Raises:
        ConfigError: For an unknown name, a key that the oracle does not take or lacks, or a bad
            value.
    """
    found = oracle_class(name)
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(f"oracle_config: {config!r} is not a mapping of keys to values")
    config = config or {}
    parameters = inspect.signature(found).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    keys = {k: p for k, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    for key in config:
        if key not in keys and not takes_any:
            raise ConfigError(
                f"oracle_config: oracle {name!r} has no key {key!r}{nearest(str(key), keys)}; "
                f"there are {', '.join(keys) or 'none'}"
            )
    for key, parameter in keys.items():
        if parameter.default is parameter.empty and key not in config:
            raise ConfigError(f"oracle_config: oracle {name!r} needs the key {key!r}")
    found.check_config(**config)


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
    "Answers",
    "AnswersInPart",
    "AsyncOracle",
    "LengthOracle",
    "Oracle",
    "ScoringOracle",
    "ask_oracle",
    "ask_oracle_in_part",
    "check_oracle",
    "check_oracle_config",
    "check_shape",
    "is_final",
    "make_oracle",
    "oracle_class",
    "probability_of",
]
