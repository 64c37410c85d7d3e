"""How a key is declared, and what follows from its declaration.

A group of keys is a dataclass without equality and representation of its own, since
:class:`rllib_sea.config.SEAConfig` inherits its fields; each field is a :func:`key`. To add a key,
write its field and run ``python -m rllib_sea.settings.reference``.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints

from text_duel.errors import nearest

T = TypeVar("T")
P = ParamSpec("P")
Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Key:
    """A declared key.

    Attributes:
        name: As in a recipe.
        type: What it may hold.
        default: A copy of its default.
        help: What it means, in one or two sentences. What stands in a recipe as ``null`` is None
            here; a file of ``docs/`` is named with that folder.
        check: Called with name and value; raises ConfigError for a value that cannot be.
    """

    name: str
    type: Any
    default: Any
    help: str
    check: Callable[[str, Any], None]


def key(
    default: T,
    help: str,
    check: Callable[Concatenate[str, Any, P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Declares a key; its name and type are the field's.

    Args:
        default: Its default; each configuration gets a copy.
        help: See :class:`Key`.
        check: A function of :mod:`rllib_sea.settings.checks`, or :func:`checked_elsewhere`.
        *args: What the check takes after name and value.
        **kwargs: Likewise.
    """
    metadata = {"help": help, "check": lambda name, value: check(name, value, *args, **kwargs)}
    field: Any = dataclasses.field(default_factory=partial(copy.copy, default), metadata=metadata)
    return field


def checked_elsewhere(key: str, value: Any) -> None:
    """For a key whose values only a room above knows: checked in config.py or where they are."""


def keys_of(group: type) -> list[Key]:
    """A group's keys, in the order of their declaration."""
    types, defaults = get_type_hints(group), group()
    return [
        Key(field.name, types[field.name], getattr(defaults, field.name), **field.metadata)
        for field in dataclasses.fields(group)
    ]


def values_of(config: object, group: type[T]) -> T:
    """A group with the values of a configuration.

    Args:
        config: An object with an attribute for each key.
        group: Their declaration, or a class that inherits it.
    """
    names = [declared.name for declared in keys_of(group)]
    return group(**{name: getattr(config, name) for name in names})


def check_keys(values: object, group: type) -> None:
    """Checks each key of a group by itself.

    Args:
        values: An object with an attribute for each.
        group: Their declaration.

    Raises:
        ConfigError: One line that names the key, the value and what was expected.
    """
    for declared in keys_of(group):
        declared.check(declared.name, getattr(values, declared.name))


def method_name(group: type) -> str:
    """The name of the method that sets a group: ``RewardModel`` is set by ``reward_model()``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", group.__name__).lower()


def setter(group: Callable[P, object]) -> Callable[Concatenate[Config, P], Config]:
    """The method that sets a group's keys.

    Its keyword arguments are the group's fields, for editors and type checkers as well as for
    ``help()``; what is not given stays as it is.
    """
    assert isinstance(group, type)
    name, keys = method_name(group), {declared.name: declared for declared in keys_of(group)}

    def set_keys(self: Any, **values: Any) -> Any:
        for given, value in values.items():
            if given not in keys:
                raise TypeError(
                    f"{name}() got an unexpected keyword argument {given!r}{nearest(given, keys)}"
                )
            setattr(self, given, value)
        return self

    method: Any = set_keys
    method.__module__, method.__name__ = group.__module__, name
    method.__qualname__ = f"SEAConfig.{name}"
    method.__doc__ = group.__doc__
    method.__signature__ = inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(
                inspect.Parameter(
                    declared.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=declared.default,
                    annotation=declared.type,
                )
                for declared in keys.values()
            ),
        ]
    )
    return explained(group)(method)


def explained(group: type) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Adds what a group's keys mean to a method's docstring."""

    def explain(method: Callable[P, T]) -> Callable[P, T]:
        method.__doc__ = f"{method.__doc__}\n\nArgs:\n{_arguments(keys_of(group))}\n"
        return method

    return explain


def _arguments(keys: Iterable[Key]) -> str:
    return "\n".join(
        textwrap.fill(
            f"{declared.name}: {declared.help} By default {declared.default!r}.",
            width=88,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for declared in keys
    )
