"""The tables of keys in docs/configuration.md, written from the declarations.

``python -m rllib_sea.settings.reference`` replaces what stands between the lines
``<!-- keys: GROUP -->`` and ``<!-- end of keys -->`` there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rllib_sea.settings.declaration import keys_of
from rllib_sea.settings.groups import GROUPS

FILE = Path(__file__).parents[2] / "docs" / "configuration.md"
_TABLE = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)


def table(group: type) -> str:
    """A group's keys as a table in Markdown, in the words of a recipe."""
    rows = [
        f"| `{key.name}` | {_default(key.default)} | {_text(key.help)} |" for key in keys_of(group)
    ]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows, ""])


def with_tables(text: str) -> str:
    """A document with the tables that it asks for.

    Raises:
        KeyError: It asks for a group that does not exist.
    """
    tables = {group.__name__: table(group) for group in GROUPS}
    return _TABLE.sub(lambda found: found[1] + tables[found[2]] + found[3], text)


def _default(value: Any) -> str:
    """As in YAML: 5e-7, not 5e-07."""
    if isinstance(value, str):
        return f"`{value}`"
    if value == {}:
        return "`{}`"
    return re.sub(r"e-0", "e-", json.dumps(value))


def _text(help: str) -> str:
    """As a sentence of a document: what Python calls None is null there, files are links."""
    for python, yaml in (("None", "null"), ("True", "true"), ("False", "false")):
        help = re.sub(rf"\b{python}\b", yaml, help)
    return re.sub(r"\bdocs/([\w/]+\.md)(#[\w-]+)?", r"[\1](\1\2)", help)


if __name__ == "__main__":
    FILE.write_text(with_tables(FILE.read_text(encoding="utf-8")), encoding="utf-8")
