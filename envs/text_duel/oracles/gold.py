"""Gold questions: pairs of which it is known which response is better, to see who labels well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from text_duel.conversations import Content, check_characters, read_prompt, read_response
from text_duel.errors import ConfigError, nearest
from text_duel.paths import user_path

KEY = "oracle_config.gold"
COLUMNS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """A prompt with a better and a worse response.

    Attributes:
        prompt: A text or a conversation.
        chosen: The better response.
        rejected: The other one.
    """

    prompt: Content
    chosen: str
    rejected: str


def read_gold(file: Any) -> tuple[GoldQuestion, ...]:
    """Reads a file of gold questions.

    Args:
        file: A file of a kind of :data:`text_duel.sources.KINDS` with the columns prompt, chosen,
            rejected: texts, or messages as in the Hugging Face preference format.

    Raises:
        ConfigError: It cannot be read, has no rows, or a row is none; with the row's place.
    """
    # Its readers, which raters do not need.
    from text_duel.sources import FileSource

    if not isinstance(file, str):
        raise ConfigError(f"{KEY}: {file!r} is not the name of a file")
    questions: list[GoldQuestion] = []
    places: dict[str, str] = {}
    for place, row in FileSource(user_path(file, KEY), KEY).rows():
        question = _read(place, row)
        identity = json.dumps(astuple(question))
        if identity in places:
            raise ConfigError(f"{KEY}: {place}: the same as {places[identity]}")
        places[identity] = place
        questions.append(question)
    if not questions:
        raise ConfigError(f"{KEY}: {file} has no rows")
    return tuple(questions)


def _read(place: str, row: Mapping[str, Any]) -> GoldQuestion:
    for column in COLUMNS:
        if column not in row:
            raise ConfigError(
                f"{KEY}: {place}: no column {column!r}{nearest(column, list(row))}; "
                f"expected {', '.join(COLUMNS)}"
            )
    try:
        column = "prompt"
        prompt = read_prompt(row["prompt"])
        texts = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
        for text in texts:
            _check(text)
        responses = []
        for column in ("chosen", "rejected"):
            response = read_response(row[column], prompt).strip()
            _check(response)
            responses.append(response)
    except ValueError as error:
        raise ConfigError(f"{KEY}: {place}: {column} {error}") from error
    if responses[0] == responses[1]:
        raise ConfigError(f"{KEY}: {place}: chosen and rejected are the same text")
    return GoldQuestion(prompt, *responses)


def _check(text: str) -> None:
    if not text.strip():
        raise ValueError("is empty")
    check_characters(text)
