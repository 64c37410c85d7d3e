"""rllib-sea: sample-efficient alignment of language models, as an RLlib algorithm.

Importing the package makes ``"SEA"`` known to Ray Tune, and ``"text_duel/TLDR-v0"`` to RLlib.
What it offers is imported when it is used, and so are they: Tune, RLlib, torch and transformers
take seconds, which processes that need none of them would otherwise wait for.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    import gymnasium as gym

    import text_duel
    from rllib_sea.config import SEAConfig
    from rllib_sea.sea import SEA

__all__ = ["SEA", "SEAConfig", "register", "text_duel"]


def __getattr__(name: str) -> Any:
    if name == "SEA":
        return import_module("rllib_sea.sea").SEA
    if name == "SEAConfig":
        return import_module("rllib_sea.config").SEAConfig
    if name == "text_duel":
        return import_module("text_duel")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _make_env(config: dict[str, Any]) -> gym.Env[Any, Any]:
    import gymnasium as gym

    import_module("text_duel")
    return gym.make("text_duel/TLDR-v0", **config)


def _sea() -> type[SEA]:
    from rllib_sea.sea import SEA

    return SEA


class _SEAByName:
    """What Tune's registry keeps, pickled: read back, it is the class."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _sea, ()


def register() -> None:
    """Makes the names known to Ray; again after a session of Ray ended, which forgets them."""
    from ray.tune.registry import TRAINABLE_CLASS, _global_registry, register_env

    # `register_trainable` would have to be given the class.
    _global_registry.register(TRAINABLE_CLASS, "SEA", _SEAByName())
    register_env("text_duel/TLDR-v0", _make_env)


@when_imported("ray.tune.registry")
def _register(registry: ModuleType) -> None:
    register()
