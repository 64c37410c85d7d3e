"""Reading YAML that people wrote: nothing is executed, and no key is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from text_duel.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader`, which refuses a repeated key and reads ``5e-6`` as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            # Keys of an anchor's mapping (`<<`) may be overridden; equal keys may not.
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 5e-6 for text, since it lacks a point; YAML 1.2 and every reader do not.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file.

    Raises:
        ConfigError: For a file that cannot be read, or is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"cannot read {path}: {reason}") from error
    return _parse(text, str(path))


def parse_option(name: str, text: str) -> dict[str, Any]:
    """Parses an option's value: a mapping in JSON or YAML.

    Args:
        name: The option's, for the error.
        text: The value as typed.

    Raises:
        ConfigError: For anything but a mapping.
    """
    value = _parse(text, name)
    if not isinstance(value, dict):
        example = json.dumps({"training_iteration": 10})
        raise ConfigError(f"{name}: {text!r} is no mapping in JSON or YAML, such as '{example}'")
    return value


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{where}{line}: not valid YAML: {problem}") from error
