"""Prompt templates: what the policy is asked about one post.

A template is in one of two forms. In the short form ``{column}`` is a field, ``[[...]]`` encloses a
part that is left out if the source lacks one of its fields (a post without a title), and ``{{``
and ``}}`` are literal braces. The other form is Jinja2 (``{{ post }}``, ``{% if title %}``), in its
sandbox and with the white space of chat templates.
The model's own chat template is no business of these: the policy's side wraps the prompt with it.
"""

from __future__ import annotations

import functools
import io
import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text_duel.conversations import check_characters
from text_duel.errors import ConfigError, nearest
from text_duel.paths import user_path
from text_duel.sources import open_utf8

TEMPLATE_FOLDER = Path(__file__).parent / "data" / "templates"
JINJA_ENDINGS = (".jinja", ".j2")
_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
# What is no literal in the short form, and hardly one in Jinja2.
_SHORT_FORM = re.compile(r"(?<!\{)\{[^{}%#\"':]+\}(?!\})|\[\[.*?\]\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be filled in.

    Attributes:
        name: The shipped name, the file, or ``"inline"``.
        text: The text with its fields.
        is_jinja: Whether it is Jinja2, not the short form.
    """

    name: str
    text: str
    is_jinja: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The columns that it uses, also in parts that may be left out."""
        return _jinja_names(self.text) if self.is_jinja else _short_names(self.name, self.text)

    def render(
        self, fields: Mapping[str, str], *, place: str = "the source", columns: Collection[str] = ()
    ) -> str:
        """Fills in the fields.

        Args:
            fields: The values by column name.
            place: What has these fields, for messages.
            columns: Columns that other rows have. In Jinja2 one that is not among ``fields`` is
                false, and otherwise as undefined as any other name.

        Returns:
            The prompt.

        Raises:
            ConfigError: The template needs a field that the source does not have, or Jinja2 cannot
                compute what it says.
        """
        if self.is_jinja:
            return self._render_jinja(fields, place, columns)
        # Odd pieces are the insides of [[...]]. Splitting before filling in keeps
        # brackets and braces in the post itself untouched.
        filled: list[str] = []
        for i, piece in enumerate(_OPTIONAL.split(self.text)):
            parts = _parse(self.name, piece)
            missing = [name for _, name in parts if name is not None and name not in fields]
            if missing and i % 2 == 1:
                continue
            if missing:
                raise self._lacks(missing[0], fields, place)
            filled.extend(text + ("" if name is None else fields[name]) for text, name in parts)
        return "".join(filled)

    def _render_jinja(self, fields: Mapping[str, str], place: str, columns: Collection[str]) -> str:
        import jinja2

        template, null = _compiled(self.text)
        nulls = {name: null(name=name) for name in columns if name not in fields}
        try:
            return template.render({**nulls, **fields})
        except jinja2.UndefinedError as error:
            name = re.fullmatch(r"'(.+)' is undefined", error.message or "")
            if name is not None:
                raise self._lacks(name[1], fields, place) from error
            raise ConfigError(f"template: {self.name!r}, at {place}: {error}") from error
        except Exception as error:  # its expressions compute, and may fail in any way
            reason = " ".join(str(error).split())
            raise ConfigError(f"template: {self.name!r}, at {place}: {reason}") from error

    def _lacks(self, name: str, fields: Mapping[str, str], place: str) -> ConfigError:
        return ConfigError(
            f"template: {self.name!r} uses the field {name!r}, {place} has "
            f"{', '.join(sorted(fields))}{nearest(name, fields)}"
        )


def template_names() -> list[str]:
    """The names of the shipped templates."""
    return sorted(path.stem for path in TEMPLATE_FOLDER.glob("*.txt"))


def resolve_template(template: str) -> Template:
    """Finds a template and checks that it can be parsed.

    A file that ends in ``.jinja`` or ``.j2`` is Jinja2. Other templates say by themselves what
    they are, since ``{{ post }}`` is a field in Jinja2 and none in the short form; one that has
    fields of both forms is refused.

    Args:
        template: A shipped name, an inline template (any text with a ``{``), or a path that
            ends in ``.txt``, ``.jinja`` or ``.j2``. One newline at the end of a file is not part of
            the template.

    Returns:
        The template.

    Raises:
        ConfigError: There is no such name or file, or it cannot be read.
    """
    if "{" in template:
        return _told_apart("inline", template)
    if template in template_names():
        return _told_apart(template, _read(TEMPLATE_FOLDER / f"{template}.txt"))
    if not template.endswith((".txt", *JINJA_ENDINGS)):
        raise ConfigError(
            f"template: {template!r} is none of {', '.join(template_names())}, no text with "
            f"{{fields}} and no .txt or .jinja file{nearest(template, template_names())}"
        )
    path = user_path(template, "template")
    if not path.is_file():
        raise ConfigError(f"template: no file at {path.absolute()}")
    text = _read(path)
    if not template.endswith(JINJA_ENDINGS):
        return _told_apart(template, text)
    if not _checked_jinja_names(template, text):
        raise _no_field(template)
    return Template(template, text, is_jinja=True)


def _told_apart(name: str, text: str) -> Template:
    """A template of either form; one whose form cannot be told is refused."""
    try:
        check_characters(text)
    except ValueError as error:
        raise ConfigError(f"template: {name!r} {error}") from error
    no_jinja = ""
    if "{{" in text or "{%" in text:
        try:
            has_fields = bool(_checked_jinja_names(name, text))
        except ConfigError as error:
            has_fields, no_jinja = False, f"; as Jinja2: {error}"
        short = _SHORT_FORM.search(text) if has_fields else None
        if short is not None:
            raise ConfigError(
                f"template: {name!r} has fields as in Jinja2 and {short[0]!r}, which is one of the "
                "short form: write all as {{ column }} and {% if column %}, or put it into a "
                ".jinja file, where single braces and brackets are text"
            )
        if has_fields:
            return Template(name, text, is_jinja=True)
    try:
        if not _short_names(name, text):
            raise _no_field(name)
    except ConfigError as error:
        raise ConfigError(f"{error}{no_jinja}") from error
    return Template(name, text)


def _no_field(name: str) -> ConfigError:
    return ConfigError(f"template: {name!r} has no {{field}}: every prompt would be equal")


def _read(path: Path) -> str:
    try:
        with open_utf8(path) as file, io.TextIOWrapper(file, "utf-8") as text:
            return text.read().removesuffix("\n")
    except (ValueError, OSError) as error:
        raise ConfigError(f"template: cannot read {path.absolute()}: {error}") from error


# -- The short form ------------------------------------------------------------------------


def _short_names(name: str, text: str) -> frozenset[str]:
    return frozenset(
        field
        for piece in _OPTIONAL.split(text)
        for _, field in _parse(name, piece)
        if field is not None
    )


def _parse(template_name: str, piece: str) -> list[tuple[str, str | None]]:
    """Splits a piece into (literal text, the field after it or None)."""
    try:
        parts = list(string.Formatter().parse(piece))
    except ValueError as error:
        raise ConfigError(f"template: {template_name!r} cannot be read: {error}") from error
    for _, name, spec, conversion in parts:
        if name == "" or (name or "").startswith(("%", "#")) or spec or conversion:
            raise ConfigError(
                f"template: {template_name!r} has the field "
                f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}; "
                "fields are plain column names such as {post}"
            )
    return [(text, name) for text, name, _, _ in parts]


# -- Jinja2 --------------------------------------------------------------------------------


@functools.cache
def _environment() -> tuple[Any, type]:
    """The sandbox, set as Transformers sets it for chat templates; and what a null column is."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Null(jinja2.StrictUndefined):
        """False, and an error wherever its text is needed."""

        def __bool__(self) -> bool:  # type: ignore[override]
            return False

    return ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    ), Null


@functools.lru_cache(maxsize=8)
def _compiled(text: str) -> tuple[Any, type]:
    environment, null = _environment()
    return environment.from_string(text), null


@functools.lru_cache(maxsize=8)
def _jinja_names(text: str) -> frozenset[str]:
    from jinja2 import meta

    environment, _ = _environment()
    return frozenset(
        meta.find_undeclared_variables(environment.parse(text)) - {*environment.globals}
    )


def _checked_jinja_names(name: str, text: str) -> frozenset[str]:
    import jinja2

    try:
        _compiled(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"template: {name!r}, line {error.lineno}: {error.message}") from error
    return _jinja_names(text)
