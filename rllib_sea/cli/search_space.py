"""Search spaces as they are written in a file, and the configurations they stand for.

Anywhere in an experiment's ``config`` a value may be one of

    {grid_search: [a, b, c]}      every value is tried
    {choice: [a, b, c]}           one of them is drawn for each sample
    {uniform: [low, high]}        a number is drawn
    {loguniform: [low, high]}     a number is drawn, uniform in its logarithm
    {randint: [low, high]}        a whole number is drawn, below ``high``
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from text_duel.errors import ConfigError, nearest

GRID = "grid_search"
RANGES = ("uniform", "loguniform", "randint")
FORMS = (GRID, "choice", *RANGES)

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class SearchPoint:
    """A place in a configuration whose value is searched.

    Attributes:
        path: Keys and indices that lead there.
        values: All values, or for a range its two ends.
        grid: Whether every value is tried.
    """

    path: Path
    values: tuple[Any, ...]
    grid: bool


def to_tune(config: Any) -> Any:
    """Replaces the written forms by Tune's search-space objects.

    Args:
        config: A configuration as written; it is not changed.

    Raises:
        ConfigError: For a form that is not understood.
    """
    from ray import tune

    form = _form(config)
    if form == GRID:
        return {GRID: list(_values(config, form))}
    if form == "choice":
        return tune.choice(_values(config, form))
    if form is not None:
        return getattr(tune, form)(*_values(config, form))
    if isinstance(config, Mapping):
        return {key: to_tune(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(to_tune(value) for value in config)
    return config


def variants(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Configurations that must be valid for the whole search to be.

    Args:
        config: As written, or with Tune's own search-space objects.

    Returns:
        Every grid variant, with the first value of each random draw; then, for the first
        of them, each other value (or end of a range) of each random draw.

    Raises:
        ConfigError: For a form that is not understood.
    """
    points = list(search_points(config))
    base = [(p.path, p.values[0]) for p in points if not p.grid]
    grid = [[(p.path, value) for value in p.values] for p in points if p.grid]
    choices = [[*base, *combination] for combination in itertools.product(*grid)]
    first = choices[0]
    for point in points:
        if not point.grid:
            for value in point.values[1:]:
                choices.append([(path, v) for path, v in first if path != point.path])
                choices[-1].append((point.path, value))
    return [_replaced(config, (), dict(choice)) for choice in choices]


def num_grid_variants(config: Mapping[str, Any]) -> int:
    """How many trials one sample of the search has."""
    count = 1
    for point in search_points(config):
        count *= len(point.values) if point.grid else 1
    return count


def search_points(config: Any, path: Path = ()) -> Iterator[SearchPoint]:
    """Finds the searched places of a configuration, in order.

    Raises:
        ConfigError: For a form that is not understood.
    """
    from ray.tune.search.sample import Categorical, Domain, Float, Integer

    form = _form(config, path)
    if form is not None:
        values = _values(config, form, path)
        if form == "randint":
            values = (values[0], values[1] - 1)
        yield SearchPoint(path, values, grid=form == GRID)
    elif isinstance(config, Domain):
        if isinstance(config, Categorical):
            yield SearchPoint(path, tuple(config.categories), grid=False)
        elif isinstance(config, Integer):
            yield SearchPoint(path, (config.lower, config.upper - 1), grid=False)
        elif isinstance(config, Float):
            yield SearchPoint(path, (config.lower, config.upper), grid=False)
        else:
            yield SearchPoint(path, (config.sample(),), grid=False)
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from search_points(value, (*path, key))
    elif isinstance(config, list | tuple):
        for index, value in enumerate(config):
            yield from search_points(value, (*path, index))


def _form(node: Any, path: Path = ()) -> str | None:
    """The name of the form that a node is written in, None for a plain value."""
    if not isinstance(node, Mapping) or len(node) != 1:
        return None
    (key,) = node
    if key == "eval":
        # Tune would run the text as Python.
        raise ConfigError(f"{_name(path)}: {{eval: ...}} is not taken from a file; use a .py file")
    if key == GRID or (key in FORMS and isinstance(node[key], list | tuple)):
        return str(key)
    if isinstance(key, str) and isinstance(node[key], list) and _looks_like_a_form(key):
        raise ConfigError(f"{_name(path)}: unknown search space {key!r}{nearest(key, FORMS)}")
    return None


def _looks_like_a_form(key: str) -> bool:
    return key not in FORMS and (key.startswith("grid") or key.endswith("uniform"))


def _values(node: Mapping[str, Any], form: str, path: Path = ()) -> tuple[Any, ...]:
    values = node[form]
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ConfigError(f"{_name(path)}: {form} needs a list of values, not {values!r}")
    if form in RANGES:
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(values) != 2 or len(numbers) != 2 or not values[0] < values[1]:
            raise ConfigError(f"{_name(path)}: {form} needs [low, high], not {list(values)!r}")
        if form == "loguniform" and values[0] <= 0:
            raise ConfigError(f"{_name(path)}: loguniform needs a low end above 0: {values[0]!r}")
        if form == "randint" and not all(isinstance(v, int) for v in values):
            raise ConfigError(f"{_name(path)}: randint needs whole numbers, not {list(values)!r}")
    return tuple(values)


def _name(path: Path) -> str:
    return "config" + "".join(f".{part}" for part in path)


def _replaced(node: Any, path: Path, choice: Mapping[Path, Any]) -> Any:
    """A copy of a configuration with the chosen values in their places."""
    if path in choice:
        return choice[path]
    if isinstance(node, Mapping):
        return {key: _replaced(value, (*path, key), choice) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_replaced(v, (*path, i), choice) for i, v in enumerate(node))
    return node
