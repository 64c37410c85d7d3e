"""Prompt templates: what the policy is asked about one post.

A template is text with ``{column}`` fields. ``[[...]]`` encloses a part that is left out if
the source lacks one of its fields (a post without a title); ``{{`` and ``}}`` are literal braces.
The model's own chat template is no business of these: the policy's side wraps the prompt with it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from text_duel.errors import ConfigError, nearest

TEMPLATE_FOLDER = Path(__file__).parent / "data" / "templates"
_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be filled in.

    Attributes:
        name: The shipped name, the file, or ``"inline"``.
        text: The text with its fields.
    """

    name: str
    text: str

    def render(self, fields: Mapping[str, str]) -> str:
        """Fills in the fields.

        Args:
            fields: The values by column name.

        Returns:
            The prompt.

        Raises:
            ConfigError: The template needs a field that the source does not have.
        """
        # Odd pieces are the insides of [[...]]. Splitting before filling in keeps
        # brackets and braces in the post itself untouched.
        filled: list[str] = []
        for i, piece in enumerate(_OPTIONAL.split(self.text)):
            parts = _parse(self.name, piece)
            missing = [name for _, name in parts if name is not None and name not in fields]
            if missing and i % 2 == 1:
                continue
            if missing:
                raise ConfigError(
                    f"template: {self.name!r} uses the field {missing[0]!r}, the source has "
                    f"{', '.join(sorted(fields))}{nearest(missing[0], fields)}"
                )
            filled.extend(text + ("" if name is None else fields[name]) for text, name in parts)
        return "".join(filled)


def template_names() -> list[str]:
    """The names of the shipped templates."""
    return sorted(path.stem for path in TEMPLATE_FOLDER.glob("*.txt"))


def resolve_template(template: str) -> Template:
    """Finds a template and checks that it can be parsed.

    Args:
        template: A shipped name, an inline template (any text with a ``{``), or a path that
            ends in ``.txt``. One newline at the end of a file is not part of the template.

    Returns:
        The template.

    Raises:
        ConfigError: There is no such name or file, or its braces do not match.
    """
    if "{" in template:
        found = Template("inline", template)
    elif template in template_names():
        found = Template(template, _read(TEMPLATE_FOLDER / f"{template}.txt"))
    elif template.endswith(".txt"):
        path = Path(template).expanduser()
        if not path.is_file():
            raise ConfigError(f"template: no file at {path.absolute()}")
        found = Template(template, _read(path))
    else:
        raise ConfigError(
            f"template: {template!r} is none of {', '.join(template_names())}, no text with "
            f"{{fields}} and no .txt file{nearest(template, template_names())}"
        )
    names = [
        name
        for piece in _OPTIONAL.split(found.text)
        for _, name in _parse(found.name, piece)
        if name is not None
    ]
    if not names:
        raise ConfigError(f"template: {found.name!r} has no {{field}}: every prompt would be equal")
    return found


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").removesuffix("\n")


def _parse(template_name: str, piece: str) -> list[tuple[str, str | None]]:
    """Splits a piece into (literal text, the field after it or None)."""
    try:
        parts = list(string.Formatter().parse(piece))
    except ValueError as error:
        raise ConfigError(f"template: {template_name!r} cannot be read: {error}") from error
    for _, name, spec, conversion in parts:
        if name == "" or spec or conversion:
            raise ConfigError(
                f"template: {template_name!r} has the field "
                f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}; "
                "fields are plain column names such as {post}"
            )
    return [(text, name) for text, name, _, _ in parts]
