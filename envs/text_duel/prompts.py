"""Prompts: rows of a source with the template filled in."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from text_duel.errors import ConfigError, nearest
from text_duel.sources import BUNDLED, find_source
from text_duel.templates import resolve_template

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
        reference: The reference response, or None if the source has none.
    """

    id: str
    text: str
    fields: Mapping[str, str] = field(hash=False)
    reference: str | None

    @property
    def post(self) -> str:
        """The post to be summarised, without the template around it."""
        return self.fields["post"]


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
    template: str = "tldr",
    columns: Mapping[str, str | None] | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Loads prompts.

    Args:
        source: ``"tldr_mini"`` (bundled), a ``.jsonl`` file, a folder with ``<split>.jsonl``
            files, or a Hugging Face data set as ``owner/name`` or ``owner/name:configuration``.
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
    for key, value in (("prompts", source), ("split", split), ("template", template)):
        if not isinstance(value, str):
            raise ConfigError(f"{key}: {value!r} is not text")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit: {limit!r} is not a whole number of at least 1")
    filled = resolve_template(template)
    resolved = resolve_columns(columns)
    found = find_source(source, split)
    id_is_asked_for = "id" in (columns or {})

    prompts: list[Prompt] = []
    places: dict[str, str] = {}
    for number, (place, row) in enumerate(itertools.islice(found.rows(), limit)):
        if resolved.id is None or (resolved.id not in row and not id_is_asked_for):
            prompt_id = f"{split}-{number}"
        else:
            prompt_id = _cell(place, row, "id", resolved.id) or ""
            if not prompt_id:
                raise ConfigError(f"prompts: {place}: the id (column {resolved.id!r}) is empty")
        if prompt_id in places:
            raise ConfigError(
                f"prompts: {place}: the id {prompt_id!r} stands at {places[prompt_id]} already"
            )
        places[prompt_id] = place
        post = _cell(place, row, "post", resolved.post)
        if post is None:
            raise ConfigError(f"prompts: {place}: the post (column {resolved.post!r}) is null")
        reference = resolved.reference and _cell(place, row, "reference", resolved.reference)
        fields = {name: _as_text(value) for name, value in row.items() if value is not None}
        fields["post"] = post
        prompts.append(Prompt(prompt_id, filled.render(fields), fields, reference))
    if not prompts:
        raise ConfigError(f"prompts: {source!r} has no rows (read {found.description})")
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


def _cell(place: str, row: Mapping[str, Any], role: str, column: str) -> str | None:
    if column not in row:
        hint = ", or null where there are no references" if role == "reference" else ""
        raise ConfigError(
            f"columns: {place}: there is no column {column!r} for the {role}; there are "
            f"{', '.join(row)}{nearest(column, row)}: set `columns: {{{role}: ...}}`{hint}"
        )
    value = row[column]
    return None if value is None else _as_text(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
