"""The environment's configuration, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text_duel.errors import ConfigError, nearest
from text_duel.labels import LABEL_MODES
from text_duel.oracles import check_oracle_config
from text_duel.prompts import load_prompts, prompt_options

ENV_KEYS = (
    "prompts",
    "split",
    "template",
    "columns",
    "limit",
    "oracle",
    "oracle_config",
    "labels",
    "flip_noise",
)


def validate_env_config(config: Mapping[str, Any]) -> None:
    """Checks an environment's configuration; reads the prompts, loads no model.

    Raises:
        ConfigError: One line with the key, the value and what was expected.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"env_config: {config!r} is not a mapping of keys to values")
    for key in config:
        if key not in ENV_KEYS:
            raise ConfigError(f"unknown env_config key {key!r}{nearest(str(key), ENV_KEYS)}")
    for key in ("prompts", "split", "template", "oracle", "labels"):
        if key in config and not isinstance(config[key], str):
            raise ConfigError(f"{key}: {config[key]!r} is not text")
    limit = config.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit: {limit!r} is not a whole number of at least 1")
    for key in ("columns", "oracle_config"):
        if config.get(key) is not None and not isinstance(config[key], Mapping):
            raise ConfigError(f"{key}: {config[key]!r} is not a mapping")
    if config.get("labels", LABEL_MODES[0]) not in LABEL_MODES:
        raise ConfigError(
            f"labels: {config['labels']!r} is none of {', '.join(LABEL_MODES)}"
            f"{nearest(config['labels'], LABEL_MODES)}"
        )
    flip_noise = config.get("flip_noise", 0.0)
    if (
        isinstance(flip_noise, bool)
        or not isinstance(flip_noise, int | float)
        or not 0.0 <= flip_noise < 0.5
    ):
        raise ConfigError(f"flip_noise: {flip_noise!r} is not a number in [0, 0.5)")
    check_oracle_config(config.get("oracle", "embedding"), config.get("oracle_config"))
    load_prompts(**prompt_options(config))
