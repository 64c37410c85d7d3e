"""The environment's configuration, checked before a model is loaded.

A key is checked by the part that it configures; here stands only what no part can know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text_duel.errors import ConfigError, nearest
from text_duel.labels import LabelRule
from text_duel.oracles import check_oracle_config, oracle_class
from text_duel.prompts import PROMPT_KEYS, Prompt, load_prompts, prompt_options

LABEL_KEYS = ("labels", "flip_noise")
# Another source, of what is held out by whoever trains: no environment shows its prompts.
EVALUATION_PROMPTS = "evaluation_prompts"
ENV_KEYS = ("prompts", EVALUATION_PROMPTS, *PROMPT_KEYS, "oracle", "oracle_config", *LABEL_KEYS)


def validate_env_config(config: Mapping[str, Any]) -> list[Prompt]:
    """Checks an environment's configuration; reads the prompts, loads no model.

    Args:
        config: The arguments of :class:`text_duel.TextDuelEnv`.

    Returns:
        The prompts, since checking them means reading them.

    Raises:
        ConfigError: One line with the key, the value and what was expected.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"env_config: {config!r} is not a mapping of keys to values")
    for key in config:
        if key not in ENV_KEYS:
            raise ConfigError(
                f"env_config: unknown key {key!r}{nearest(str(key), ENV_KEYS)}; there are "
                f"{', '.join(ENV_KEYS)}"
            )
    label_rule(config)
    oracle = oracle_options(config)
    check_oracle_config(**oracle)
    prompts = load_prompts(**prompt_options(config))
    if oracle_class(oracle["name"]).needs_references:
        lacking = next((prompt for prompt in prompts if prompt.reference is None), None)
        if lacking is not None:
            raise ConfigError(
                f"oracle: {oracle['name']!r} compares with references, the prompt {lacking.id!r} "
                "has none: name their column in `columns: {reference: ...}`, or take another oracle"
            )
    oracle_class(oracle["name"]).check_prompts(prompts, **(oracle["config"] or {}))
    return prompts


def label_rule(config: Mapping[str, Any]) -> LabelRule:
    """The label rule of an environment's configuration.

    Raises:
        ConfigError: For a bad ``labels`` or ``flip_noise``.
    """
    return LabelRule(**{key: config[key] for key in LABEL_KEYS if key in config})


def oracle_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`text_duel.make_oracle` in an environment's configuration."""
    return {"name": config.get("oracle", "embedding"), "config": config.get("oracle_config")}
