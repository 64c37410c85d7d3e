"""Prompts: rows of a source with the template filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from text_duel.errors import ConfigError, nearest
from text_duel.sources import BUNDLED, find_source, first_rows
from text_duel.templates import resolve_template

DEFAULT_COLUMNS: Mapping[str, str] = MappingProxyType(
    {"id": "id", "post": "post", "reference": "summary"}
)

# The arguments of `load_prompts` that are keys of an environment's configuration.
PROMPT_KEYS = ("split", "template", "columns", "limit")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One context of the dueling bandit.

    Attributes:
        id: Unique within its list.
        text: What the policy is asked: the template filled in, without a chat template.
        fields: All source columns as text (what is not text is JSON; null columns are left out),
            and the post under ``"post"`` whatever its column is called.
        reference: The reference response, or None where the source has none.
    """

    id: str
    text: str
    fields: Mapping[str, str] = field(hash=False)
    reference: str | None

    @property
    def post(self) -> str:
        """The post to be summarised, without the template around it."""
        return self.fields["post"]


def resolve_columns(columns: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """Completes a mapping of roles to column names.

    Args:
        columns: Column names by role (``id``, ``post``, ``reference``); roles that are left out
            keep their default. None for ``reference`` means no references, for ``id`` that ids
            are made from the split and the row.

    Returns:
        The column of each role.

    Raises:
        ConfigError: Unknown role, or the post has no column, or a name is not text.
    """
    if columns is not None and not isinstance(columns, Mapping):
        raise ConfigError(f"columns: {columns!r} is not a mapping of roles to column names")
    resolved: dict[str, str | None] = dict(DEFAULT_COLUMNS)
    for role, column in (columns or {}).items():
        if role not in DEFAULT_COLUMNS:
            raise ConfigError(
                f"columns: {role!r} is none of {', '.join(DEFAULT_COLUMNS)}"
                f"{nearest(str(role), DEFAULT_COLUMNS)}"
            )
        if not isinstance(column, str) and not (column is None and role != "post"):
            raise ConfigError(f"columns: {role}: {column!r} is not a column name")
        resolved[role] = column
    return resolved


def load_prompts(
    source: str,
    *,
    split: str = "train",
    template: str = "tldr",
    columns: Mapping[str, str | None] | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Loads prompts.

    Args:
        source: ``"tldr_mini"`` (bundled), a ``.jsonl`` file, a folder with ``<split>.jsonl``
            files, or a Hugging Face data set as ``owner/name``.
        split: The split. A single file has none: there it only stands in made-up ids.
        template: A shipped template's name, an inline template, or a ``.txt`` file
            (:func:`text_duel.templates.resolve_template`).
        columns: Column names by role; see :func:`resolve_columns`. A source without an ``id``
            column gets ids ``<split>-<row>``, unless ``id`` is mapped explicitly.
        limit: Only the first rows; None for all.

    Returns:
        At least one prompt, in the source's order, with distinct ids.

    Raises:
        ConfigError: No such source, split, template or column, a row that cannot be read, two
            rows with one id, or no rows at all.
    """
    found = find_source(source, split)
    filled = resolve_template(template)
    resolved = resolve_columns(columns)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit: {limit!r} is not a whole number of at least 1")
    id_optional = "id" not in (columns or {})

    prompts: list[Prompt] = []
    places: dict[str, str] = {}
    for number, place, row in first_rows(found, limit):
        fields = {name: _as_text(value) for name, value in row.items() if value is not None}
        id_column = resolved["id"]
        if id_column is None or (id_optional and id_column not in row):
            prompt_id = f"{split}-{number}"
        else:
            prompt_id = _cell(place, row, "id", id_column) or ""
            if not prompt_id:
                raise ConfigError(f"prompts: {place}: the id (column {id_column!r}) is empty")
        post = _cell(place, row, "post", resolved["post"])
        if post is None:
            raise ConfigError(f"prompts: {place}: the post (column {resolved['post']!r}) is null")
        fields["post"] = post
        if prompt_id in places:
            raise ConfigError(
                f"prompts: {place}: the id {prompt_id!r} stands at {places[prompt_id]} already"
            )
        places[prompt_id] = place
        reference_column = resolved["reference"]
        prompts.append(
            Prompt(
                id=prompt_id,
                text=filled.render(fields),
                fields=fields,
                reference=None
                if reference_column is None
                else _cell(place, row, "reference", reference_column),
            )
        )
    if not prompts:
        raise ConfigError(f"prompts: {found.description} has no rows")
    return prompts


def prompt_options(env_config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`load_prompts` in an environment's configuration."""
    options = {key: env_config[key] for key in PROMPT_KEYS if key in env_config}
    return {"source": env_config.get("prompts", BUNDLED[0]), **options}


def _cell(place: str, row: Mapping[str, Any], role: str, column: str | None) -> str | None:
    if column not in row:
        hint = ", or null where there are no references" if role == "reference" else ""
        raise ConfigError(
            f"columns: {place}: there is no column {column!r} for the {role}; there are "
            f"{', '.join(row)}{nearest(str(column), row)}: set `columns: {{{role}: ...}}`{hint}"
        )
    value = row[column]
    return None if value is None else _as_text(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
