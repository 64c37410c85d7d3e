"""Which exploration strategies, prompt acquisitions, losses and mixtures go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rllib_sea.exploration import STRATEGIES
from rllib_sea.exploration.mixing import SELECTED_PAIR, SYNTHETIC_LABELS, SYNTHETIC_PAIRS
from rllib_sea.exploration.prompt_acquisition import ACQUISITIONS
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError

if TYPE_CHECKING:
    from rllib_sea.config import SEAConfig


def check_method(config: SEAConfig) -> None:
    """Checks the strategy, its options and what it goes with.

    Raises:
        ConfigError: One line that names the keys, their values and what was expected.
    """
    name = config.exploration_strategy
    check.check_choice("exploration_strategy", name, STRATEGIES)
    strategy = STRATEGIES[name]
    check.check_options("strategy_config", config.strategy_config, strategy.select, strategy.check)
    if strategy.losses is not None and config.loss not in strategy.losses:
        raise ConfigError(
            f"exploration_strategy: {name} is not defined for loss {config.loss} (expected "
            f"{' or '.join(strategy.losses)})"
        )
    acquisition = config.prompt_acquisition
    if acquisition is not None:
        check.check_choice("prompt_acquisition", acquisition, ACQUISITIONS)
        if config.prompt_pool_size is None:
            raise ConfigError(
                f"prompt_acquisition: {acquisition} needs prompt_pool_size, the number of "
                f"prompts to choose {config.prompts_per_round} from"
            )
        check.check_int("prompt_pool_size", config.prompt_pool_size, config.prompts_per_round + 1)
    elif config.prompt_pool_size is not None:
        raise ConfigError(
            f"prompt_pool_size: {config.prompt_pool_size} has no effect without prompt_acquisition"
        )
    if config.always_asks and config.mixture != 1.0:
        raise ConfigError(
            f"gamma: {config.gamma} has the ERM label pairs, for which {config.always_asks} is not "
            "defined (expected 1.0)"
        )
    _check_own_labels(config)
    if config.needs_implicit_rewards and not config.update_policy:
        choice = f"prompt_acquisition {acquisition}"
        if strategy.needs_implicit_rewards:
            choice = f"exploration_strategy {name}"
        raise ConfigError(
            f"update_policy: false leaves the implicit rewards at 0, by which {choice} chooses"
        )
    if config.optimism is not None and not strategy.reference_candidates:
        raise ConfigError(
            f"optimism: {config.optimism} needs a response from the reference policy in every "
            f"duel: set exploration_strategy xpo, not {name}"
        )


def _check_own_labels(config: SEAConfig) -> None:
    """Checks how the ERM labels pairs, and when."""
    check.check_choice("synthetic_pair", config.synthetic_pair, SYNTHETIC_PAIRS)
    check.check_choice("synthetic_labels", config.synthetic_labels, SYNTHETIC_LABELS)
    if config.audit_share and config.audit_threshold is None:
        raise ConfigError(
            f"audit_share: {config.audit_share:g} has no effect without audit_threshold"
        )
    if config.audit_share and config.synthetic_pair == SELECTED_PAIR:
        raise ConfigError(
            f"audit_share: {config.audit_share:g} has no effect with synthetic_pair "
            f"{SELECTED_PAIR}, whose questions are all about pairs that the ERM would label"
        )
