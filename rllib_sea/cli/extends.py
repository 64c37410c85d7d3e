"""`extends` in an experiment: another file's experiment, and what is different here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_sea.cli.recipes import find_recipe
from rllib_sea.cli.yaml_files import read_yaml
from text_duel.errors import ConfigError
from text_duel.paths import user_path

KEY = "extends"


def read_experiments(path: Path) -> Any:
    """Reads a YAML file of experiments, those that extend others completed.

    ``extends`` is a recipe's name, or a path from the file's folder: what has a slash in it or ends
    in ``.yaml``. What is written beside it is merged over the one experiment there: mappings key by
    key, anything else, ``null`` and lists too, takes the other's place.

    Raises:
        ConfigError: One line: the file cannot be read, or what an experiment extends is not there,
            not one experiment, or extends the file itself.
    """
    return _completed(path, ())


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with another merged over it; neither is changed."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[key] = value
    return merged


def _completed(path: Path, extending: tuple[Path, ...]) -> Any:
    """A file's content; ``extending``: the files that led to it."""
    written = read_yaml(path)
    if not isinstance(written, Mapping):
        return written
    chain = (*extending, path.resolve())
    return {name: _experiment(name, spec, chain) for name, spec in written.items()}


def _experiment(name: Any, spec: Any, chain: tuple[Path, ...]) -> Any:
    if not isinstance(spec, Mapping) or KEY not in spec:
        return spec
    changes = dict(spec)
    try:
        base = _extended(changes.pop(KEY), chain)
    except ConfigError as error:
        raise ConfigError(f"{name}: {KEY}: {error}") from error
    return merge(base, changes)


def _extended(written: Any, chain: tuple[Path, ...]) -> Mapping[str, Any]:
    if not isinstance(written, str) or not written:
        raise ConfigError(f"{written!r} is neither a recipe's name nor a path")
    if "/" in written or Path(written).suffix in (".yaml", ".yml"):
        path = chain[-1].parent / user_path(written, "file")
    else:
        path = find_recipe(written)
    if path.resolve() in chain:
        circle = " -> ".join(file.name for file in (*chain, path))
        raise ConfigError(f"{written!r} leads back to where it is extended: {circle}")
    content = _completed(path, chain)
    specs = content.values() if isinstance(content, Mapping) else ()
    experiments = [spec for spec in specs if isinstance(spec, Mapping)]
    if len(experiments) != 1:
        raise ConfigError(f"{path} has {len(experiments)} experiments, expected one")
    return experiments[0]
