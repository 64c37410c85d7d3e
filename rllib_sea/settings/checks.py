"""Checks of configuration values: one clear line for what is wrong."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from text_duel.errors import ConfigError, nearest


def check_choice(key: str, value: Any, choices: Collection[str]) -> None:
    """Raises ConfigError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(
            f"{key}: {value!r} is none of {', '.join(sorted(choices))}"
            f"{nearest(str(value), choices)}"
        )


def check_bool(key: str, value: Any, *, optional: bool = False) -> None:
    """Raises ConfigError unless ``value`` is true or false (or null, if optional)."""
    if not isinstance(value, bool) and not (optional and value is None):
        raise ConfigError(f"{key}: {value!r} is not true or false{' or null' if optional else ''}")


def check_int(key: str, value: Any, low: int, *, optional: bool = False) -> None:
    """Raises ConfigError unless ``value`` is a whole number of at least ``low``."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key}: {value!r} is not a whole number{_text_number(value)}")
    if value < low:
        raise ConfigError(f"{key}: {value} is less than {low}")


def check_number(
    key: str,
    value: Any,
    low: float = 0.0,
    high: float = math.inf,
    *,
    open_low: bool = False,
    optional: bool = False,
) -> None:
    """Raises ConfigError unless ``value`` is a finite number in [low, high] (or (low, high])."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key}: {value!r} is not a number{_text_number(value)}")
    below = value <= low if open_low else value < low
    if below or value > high or not math.isfinite(value):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if high == math.inf else ']'}"
        raise ConfigError(f"{key}: {value!r} is outside {interval}")


def check_schedule(
    key: str, value: Any, low: float, high: float, *, optional: bool = False
) -> None:
    """Raises ConfigError unless ``value`` is a number or a schedule of numbers in [low, high].

    A schedule is ``[[queries, value], ...]``, starting at 0 queries, in increasing order; None
    will do, too, if it is optional.
    """
    if value is None and optional:
        return
    if not isinstance(value, list | tuple):
        check_number(key, value, low, high)
        return
    if not value or not all(_is_pair(point) for point in value):
        raise ConfigError(
            f"{key}: {value!r} is neither a number nor a schedule [[queries, value], ...]"
        )
    for queries, number in value:
        check_int(f"{key} (queries)", queries, 0)
        check_number(key, number, low, high)
    queries_in_order = [point[0] for point in value]
    if queries_in_order[0] != 0 or queries_in_order != sorted(set(queries_in_order)):
        raise ConfigError(
            f"{key}: a schedule's queries start at 0 and increase, these are {queries_in_order}"
        )


def check_int_list(key: str, value: Any, low: int) -> None:
    """Raises ConfigError unless ``value`` is a list of whole numbers of at least ``low``."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{key}: {value!r} is not a list of whole numbers")
    for item in value:
        check_int(key, item, low)


def check_betas(key: str, value: Any) -> None:
    """Raises ConfigError unless ``value`` is two numbers in [0, 1): Adam's decay rates."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(f"{key}: {value!r} is not a list of two numbers")
    for number in value:
        check_number(key, number, 0.0, 1.0)
        if number == 1.0:
            raise ConfigError(f"{key}: {number!r} is outside [0, 1)")


def check_options(
    key: str,
    options: Any,
    function: Callable[..., Any],
    check: Callable[..., None] | None,
) -> None:
    """Checks options against the keyword-only parameters of the function that takes them.

    Args:
        key: The configuration's key.
        options: What was given.
        function: What they are for.
        check: Checks their values; None if any will do.

    Raises:
        ConfigError: For an unknown option, listing those there are, or a bad value.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if not isinstance(options, Mapping):
        raise ConfigError(f"{key}: {options!r} is not a mapping of options to values")
    for name in options:
        if name not in names:
            have = f"are {', '.join(names)}" if names else "are none"
            raise ConfigError(
                f"{key}: unknown option {name!r}; there {have}{nearest(str(name), names)}"
            )
    if check is not None:
        check(**options)


def _is_pair(point: Any) -> bool:
    return isinstance(point, list | tuple) and len(point) == 2


def _text_number(value: Any) -> str:
    """YAML 1.1 reads 5e-6 as text: says so, since nobody guesses it."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f" but text (YAML needs a point and a sign in the exponent: {number:.1e})"
