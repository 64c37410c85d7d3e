"""Search spaces as they are written in a file, and the configurations they stand for.

Anywhere in an experiment's ``config`` a value may be one of

    {grid_search: [a, b, c]}      every value is tried
    {choice: [a, b, c]}           one of them is drawn for each sample
    {uniform: [low, high]}        a number is drawn
    {loguniform: [low, high]}     a number is drawn, uniform in its logarithm
    {randint: [low, high]}        a whole number is drawn, below ``high``
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.search.variant_generator import assign_value

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
        space: Tune's object for it.
    """

    path: Path
    values: tuple[Any, ...]
    grid: bool
    space: Any


def search_points(config: Any, path: Path = ()) -> Iterator[SearchPoint]:
    """Finds the searched places of a configuration, in order.

    Raises:
        ConfigError: For a form that is not understood.
    """
    form = _form(config, path)
    if form is not None:
        values = _values(config[form], form, path)
        if form in RANGES:
            space = getattr(tune, form)(*values)
            # The upper end of whole numbers is never drawn.
            ends = (values[0], values[1] - (form == "randint"))
            yield SearchPoint(path, ends, False, space)
        else:
            space = tune.grid_search(values) if form == GRID else tune.choice(values)
            yield SearchPoint(path, tuple(values), form == GRID, space)
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from search_points(value, (*path, key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from search_points(value, (*path, index))


def to_tune(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration, with Tune's objects where it is searched."""
    return _replaced(config, {point.path: point.space for point in search_points(config)})


def variants(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Configurations that must be valid for the whole search to be.

    Returns:
        Every grid variant, with the first value of each random draw; then, for the first
        of them, each other value (or end of a range) of each random draw.
    """
    points = list(search_points(config))
    drawn = {p.path: p.values[0] for p in points if not p.grid}
    grid = [[(p.path, value) for value in p.values] for p in points if p.grid]
    choices = [drawn | dict(combination) for combination in itertools.product(*grid)]
    for point in points:
        if not point.grid:
            choices += [choices[0] | {point.path: value} for value in point.values[1:]]
    return [_replaced(config, choice) for choice in choices]


def num_grid_variants(config: Mapping[str, Any]) -> int:
    """How many trials one sample of the search has."""
    return math.prod(len(point.values) for point in search_points(config) if point.grid)


def _replaced(config: Mapping[str, Any], choice: Mapping[Path, Any]) -> dict[str, Any]:
    """A copy of a configuration with the chosen values in their places."""
    replaced = copy.deepcopy(dict(config))
    for path, value in choice.items():
        assign_value(replaced, path, value)
    return replaced


def _form(node: Any, path: Path) -> str | None:
    """The name of the form that a node is written in, None for a plain value."""
    if not isinstance(node, Mapping) or len(node) != 1:
        return None
    ((key, value),) = node.items()
    if key == "eval":
        raise ConfigError(
            f"{_name(path)}: {{eval: ...}} would be run as Python: it is not taken from a file"
        )
    if key == GRID or (key in FORMS and isinstance(value, list | tuple)):
        return str(key)
    misspelt = isinstance(key, str) and (key.startswith("grid") or key.endswith("uniform"))
    if misspelt and key not in FORMS and isinstance(value, list):
        raise ConfigError(f"{_name(path)}: unknown search space {key!r}{nearest(key, FORMS)}")
    return None


def _values(values: Any, form: str, path: Path) -> list[Any]:
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
    return list(values)


def _name(path: Path) -> str:
    return "config" + "".join(f".{part}" for part in path)
