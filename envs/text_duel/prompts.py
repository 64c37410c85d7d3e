"""Prompts: rows of a source, as texts with the template filled in or as conversations."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from text_duel.conversations import (
    Content,
    Messages,
    as_text,
    check_characters,
    found,
    is_number,
    read_prompt,
    read_response,
    unread_keys,
)
from text_duel.errors import ConfigError, nearest
from text_duel.sources import BUNDLED, find_source
from text_duel.templates import resolve_template

# The arguments of `load_prompts` that are keys of an environment's configuration.
PROMPT_KEYS = ("split", "template", "columns", "limit")
DEFAULT_TEMPLATE = "tldr"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One context of the dueling bandit.

    Attributes:
        id: Unique within its list.
        text: What the policy is asked, without a chat template: the template filled in; of a
            conversation its messages, each after its role.
        fields: All source columns as text (what is not text is JSON; null columns are left out),
            and the post under ``"post"`` whatever its column is called.
        reference: The reference response, or None if the source has none.
        messages: The conversation that the policy is asked, which ends in a user's turn; None if
            the prompt is a text.
        unread: Keys of its messages that are not read, see
            :func:`text_duel.conversations.unread_keys`.
    """

    id: str
    text: str
    fields: Mapping[str, str] = field(hash=False)
    reference: str | None
    messages: Messages | None = field(default=None, hash=False)
    unread: frozenset[str] = frozenset()

    @property
    def post(self) -> str:
        """The post to be summarised, without the template around it."""
        return self.fields["post"]

    @property
    def content(self) -> Content:
        """What the policy is asked: the conversation if it is one, else the text."""
        return self.messages or self.text


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a source holds what.

    Attributes:
        id: The prompt's id; None makes ids from the split and the row.
        post: The post.
        reference: The reference response; None for prompts without references.
    """

    id: str | None = "id"
    post: str = "post"
    reference: str | None = "summary"


ROLES = tuple(role.name for role in dataclasses.fields(Columns))


def resolve_columns(columns: Mapping[str, str | None] | None) -> Columns:
    """Completes a mapping of roles to column names.

    Args:
        columns: Column names by role, see :class:`Columns`; roles that are left out keep their
            default.

    Returns:
        The column of each role.

    Raises:
        ConfigError: Unknown role, or the post has no column, or a name is not text.
    """
    if columns is None:
        return Columns()
    if not isinstance(columns, Mapping):
        raise ConfigError(f"columns: {columns!r} is not a mapping of roles to column names")
    for role, column in columns.items():
        if role not in ROLES:
            raise ConfigError(
                f"columns: {role!r} is none of {', '.join(ROLES)}{nearest(str(role), ROLES)}"
            )
        if not isinstance(column, str) and not (column is None and role != "post"):
            raise ConfigError(f"columns: {role}: {column!r} is not a column name")
    return Columns(**dict[str, Any](columns))


def load_prompts(
    source: str,
    *,
    split: str = "train",
    template: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Loads prompts.

    A post is a text, which the template is about, or a conversation, which is asked as it is.

    Args:
        source: ``"tldr_mini"`` (bundled), or a file, a folder or a name of a data set; see
            :func:`text_duel.sources.find_source`.
        split: The split. A single file has none: there it only stands in made-up ids.
        template: A shipped template's name, an inline template, or a file
            (:func:`text_duel.templates.resolve_template`); None is :data:`DEFAULT_TEMPLATE` for
            texts.
        columns: Column names by role; see :func:`resolve_columns`. A source without an ``id``
            column gets ids ``<split>-<row>``, unless ``id`` is mapped explicitly.
        limit: Only the first rows; None for all.

    Returns:
        At least one prompt, in the source's order, with distinct ids.

    Raises:
        ConfigError: No such source, split, template or column, a row that cannot be read or asked
            about, two rows with one id, or no rows at all.
    """
    for key, value in (("prompts", source), ("split", split), ("template", template)):
        if not isinstance(value, str) and not (key == "template" and value is None):
            raise ConfigError(f"{key}: {value!r} is not text")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit: {limit!r} is not a whole number of at least 1")
    filled = resolve_template(DEFAULT_TEMPLATE if template is None else template)
    resolved = resolve_columns(columns)
    origin = find_source(source, split)
    rows = list(itertools.islice(origin.rows(), limit))
    if not rows:
        raise ConfigError(f"prompts: {source!r} has no rows (read {origin.description})")
    names = {name for _, row in rows for name in row}
    used = filled.names - {"post", resolved.post}
    if resolved.reference is not None and resolved.reference not in names:
        _cell(*rows[0], "reference", resolved.reference)
    id_is_asked_for = "id" in (columns or {})

    prompts: list[Prompt] = []
    places: dict[str, str] = {}
    empty: list[str] = []
    for number, (place, row) in enumerate(rows):
        if resolved.id is None or (resolved.id not in row and not id_is_asked_for):
            prompt_id = f"{split}-{number}"
        else:
            prompt_id = _read_id(place, row, resolved.id)
        if prompt_id in places:
            raise ConfigError(
                f"prompts: {place}: the id {prompt_id!r} stands at {places[prompt_id]} already"
            )
        places[prompt_id] = place
        fields = _read_fields(place, row, used)
        post = _cell(place, row, "post", resolved.post)
        if post is None or post == "" or (isinstance(post, str) and not post.strip()):
            what = "null" if post is None else "empty"
            empty.append(f"prompts: {place}: the post (column {resolved.post!r}) is {what}")
            continue
        content = _read_post(place, post, resolved.post)
        fields["post"] = as_text(content)
        if isinstance(content, str):
            text = filled.render(fields, place=place, columns=names)
        elif template is not None:
            raise ConfigError(
                f"template: {template!r} is about posts that are texts; the post at {place} is a "
                "conversation, which is asked as it is: leave `template` out, or set it to null"
            )
        else:
            text = fields["post"]
        if not text.strip():
            empty.append(f"prompts: {place}: the template {filled.name!r} makes no text of it")
            continue
        reference = _read_reference(place, row, resolved.reference, content)
        messages = None if isinstance(content, str) else content
        unread = frozenset(unread_keys(post))
        prompts.append(Prompt(prompt_id, text, fields, reference, messages, unread))
    if empty:
        others = len(empty) - 1
        more = f", and {others} more rows have nothing to ask" if others else ""
        raise ConfigError(f"{empty[0]}{more}")
    return prompts


def prompt_options(env_config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`load_prompts` in an environment's configuration.

    Args:
        env_config: The configuration, whose key ``prompts`` is the source.

    Returns:
        Keyword arguments; what the configuration leaves out keeps its default.
    """
    options = {key: env_config[key] for key in PROMPT_KEYS if key in env_config}
    return {"source": env_config.get("prompts", BUNDLED[0]), **options}


def _cell(place: str, row: Mapping[str, Any], role: str, column: str) -> Any:
    if column not in row:
        hint = ", or null where there are no references" if role == "reference" else ""
        raise ConfigError(
            f"columns: {place}: there is no column {column!r} for the {role}; there are "
            f"{', '.join(row)}{nearest(column, row)}: set `columns: {{{role}: ...}}`{hint}"
        )
    return row[column]


def _read_id(place: str, row: Mapping[str, Any], column: str) -> str:
    value = _cell(place, row, "id", column)
    if value is None or value == "":
        raise ConfigError(f"prompts: {place}: the id (column {column!r}) is empty")
    if not isinstance(value, str) and not is_number(value):
        raise ConfigError(
            f"prompts: {place}: the id (column {column!r}) is {found(value)}, expected text or a "
            "number"
        )
    return _as_text(value)


def _read_post(place: str, value: Any, column: str) -> Content:
    try:
        return read_prompt(value)
    except ValueError as error:
        raise ConfigError(f"prompts: {place}: the post (column {column!r}) {error}") from error


def _read_reference(
    place: str, row: Mapping[str, Any], column: str | None, prompt: Content
) -> str | None:
    """The reference; None if there is none: no such column here, null, or white space alone."""
    value = None if column is None else row.get(column)
    if value is None:
        return None
    try:
        text = read_response(value, prompt)
    except ValueError as error:
        raise ConfigError(f"prompts: {place}: the reference (column {column!r}) {error}") from error
    return text if text.strip() else None


def _read_fields(place: str, row: Mapping[str, Any], used: Collection[str]) -> dict[str, str]:
    """All columns that are not null, as text."""
    fields = {}
    for name, value in row.items():
        if value is None:
            continue
        if name in used and (
            isinstance(value, bytes) or (isinstance(value, float) and not is_number(value))
        ):
            raise ConfigError(
                f"prompts: {place}: the column {name!r}, which the template uses, is "
                f"{found(value)}, expected text, a number or a list"
            )
        fields[name] = _as_text(value)
        try:
            check_characters(name)
            check_characters(fields[name])
        except ValueError as error:
            raise ConfigError(f"prompts: {place}: the column {name!a} {error}") from error
    return fields


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
