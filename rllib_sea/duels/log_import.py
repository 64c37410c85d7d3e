"""Reading preferences that exist already: JSON lines or Parquet with prompt, chosen, rejected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text_duel.errors import ConfigError, nearest

COLUMNS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with two responses, one of them preferred.

    Attributes:
        prompt: The prompt, without a chat template.
        chosen: The preferred response, surrounding white space stripped.
        rejected: The other response, likewise; never the same text.
    """

    prompt: str
    chosen: str
    rejected: str


def read_preferences(path: str | Path) -> list[Preference]:
    """Reads a file in the Hugging Face preference format, plain or conversational.

    Conversations have one turn: a prompt of one user message, responses of one assistant message,
    before which the prompt may stand again. Other columns are ignored.

    Args:
        path: A ``.jsonl`` or a ``.parquet`` file.

    Returns:
        At least one preference, in the file's order.

    Raises:
        ConfigError: The file cannot be read or has no rows, or a row is none of this kind: the
            message names its line, or in Parquet its row, from 1.
    """
    path = Path(path)
    readers = {".jsonl": _json_lines, ".parquet": _parquet}
    if path.suffix not in readers:
        raise ConfigError(f"preferences: {path} ends neither in .jsonl nor in .parquet")
    try:
        found = [_preference(row, place) for place, row in readers[path.suffix](path)]
    except OSError as error:
        raise ConfigError(f"preferences: cannot read {path}: {error.strerror or error}") from error
    if not found:
        raise ConfigError(f"preferences: {path} has no rows")
    return found


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    # Bytes are split at newlines only: JSON allows other line ends inside strings.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                yield place, json.loads(line.decode("utf-8-sig"))
            except ValueError as error:
                raise ConfigError(f"preferences: {place}: not valid JSON: {error}") from error


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in COLUMNS if name in file.schema_arrow.names]
            number = 0
            for some in file.iter_batches(columns=columns):
                for row in some.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"preferences: {path}: not valid Parquet: {reason}") from error


def _preference(row: Any, place: str) -> Preference:
    place = f"preferences: {place}"
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: expected an object, found {type(row).__name__}")
    for column in COLUMNS:
        if column not in row:
            raise ConfigError(f"{place}: there is no column {column!r}{nearest(column, row)}")
    prompt = _text(row["prompt"], "user", f"{place}: prompt")
    if not prompt.strip():
        raise ConfigError(f"{place}: prompt is empty")
    chosen, rejected = (
        _text(_answer_alone(row[column], prompt), "assistant", f"{place}: {column}").strip()
        for column in ("chosen", "rejected")
    )
    if chosen == rejected:
        raise ConfigError(f"{place}: chosen and rejected are the same text")
    return Preference(prompt, chosen, rejected)


def _answer_alone(value: Any, prompt: str) -> Any:
    """A conversation without the prompt that it begins with."""
    if isinstance(value, list) and value[:1] == [{"role": "user", "content": prompt}]:
        return value[1:]
    return value


def _text(value: Any, role: str, place: str) -> str:
    """The text of a plain column, or of the one message of a conversation."""
    if isinstance(value, str):
        return value
    message = value[0] if isinstance(value, list) and len(value) == 1 else None
    if (
        isinstance(message, dict)
        and message.get("role") == role
        and isinstance(message.get("content"), str)
    ):
        return message["content"]
    raise ConfigError(f"{place}: expected text, or one message of role {role!r}")
