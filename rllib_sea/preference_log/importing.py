"""Preferences that exist already, from files, and as a preference log."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_sea.policy.models import resolve_model
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.records import (
    IMPORTED,
    PreferenceLogError,
    Question,
    RunRecord,
)
from rllib_sea.preference_log.written_preferences import (
    Preference,
    TokenizedPreference,
    tokenize_preferences,
)
from text_duel.conversations import as_text, check_characters, read_prompt, read_response
from text_duel.errors import ConfigError, nearest
from text_duel.sources import FileSource
from text_duel.verdicts import Verdict

COLUMNS = ("prompt", "chosen", "rejected")
# In the place of a version of the policy: no run sampled the responses.
NO_POLICY_VERSION = -1


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made.

    Attributes:
        num_preferences: Preferences in the log.
        num_prompts: Their different prompts.
        context_length: Tokens that fit the model.
        too_long: Places of those that do not fit, and are not in the log.
    """

    num_preferences: int
    num_prompts: int
    context_length: int
    too_long: list[str]


def read_preferences(path: str | Path) -> list[Preference]:
    """Reads a file in the Hugging Face preference format, plain or conversational.

    A conversational prompt is a list of messages that ends in a user's turn; a response is one
    assistant message, before which the prompt may stand again. Other columns are ignored.

    Args:
        path: A file of a kind of :data:`text_duel.sources.KINDS`.

    Returns:
        At least one preference, in the file's order.

    Raises:
        ConfigError: The file cannot be read or has no rows, or a row is none of this kind: the
            message names its line or its row, from 1.
    """
    source = FileSource(Path(path), "preferences")
    found = [_preference(row, place) for place, row in source.rows()]
    if not found:
        raise ConfigError(f"preferences: {path} has no rows")
    return found


def import_preferences(
    file: Path, output: Path, policy_model: str, chat: bool | None = None
) -> Imported:
    """Writes preferences that exist already as a preference log, which appears whole or not at all.

    Each is an answered question of round 0, in the file's order, its preferred response the first.

    Args:
        file: See :func:`read_preferences`.
        output: The log, a file that does not exist yet.
        policy_model: The model whose tokens are written: a name or a folder, as in a run.
        chat: Whether its prompts are wrapped in its chat template; None: if it has one.

    Raises:
        ConfigError: The file cannot be read, the model cannot be found, or not one preference
            fits it.
        PreferenceLogError: The log exists already or cannot be written.
    """
    if output.exists():
        raise PreferenceLogError(f"{output} exists: name a new file, or remove it")
    found = read_preferences(file)
    tokenizer = PromptTokenizer(resolve_model(policy_model), chat)
    source = f"{IMPORTED}({file.name})"
    prompt_ids: dict[str, str] = {}
    questions, too_long = [], []
    for position, written in enumerate(tokenize_preferences(found, tokenizer)):
        if written.num_tokens > tokenizer.context_length:
            too_long.append(written.place)
            continue
        prompt = json.dumps(written.prompt)
        prompt_id = prompt_ids.setdefault(prompt, f"{file.stem}-{len(prompt_ids):06d}")
        questions.append(_question(written, position, prompt_id, source))
    if not questions:
        raise ConfigError(
            f"preferences: every row of {file} is longer than {tokenizer.context_length} tokens, "
            f"the context of {policy_model}"
        )
    run = RunRecord(source, 0, policy_model, tokenizer.chat)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder,
            PreferenceLog(Path(folder) / output.name, run) as log,
        ):
            asked = log.ask(0, questions)
            log.give(source, {entry.id: Verdict("first") for entry in asked})
            log.copy_to(output)
    except OSError as error:
        raise PreferenceLogError(f"cannot write {output}: {error.strerror}") from error
    return Imported(len(questions), len(prompt_ids), tokenizer.context_length, too_long)


def _question(written: TokenizedPreference, position: int, prompt_id: str, source: str) -> Question:
    return Question(
        round=0,
        position=position,
        prompt_id=prompt_id,
        prompt_text=as_text(written.prompt),
        prompt_token_ids=written.prompt_token_ids,
        first=written.chosen,
        second=written.rejected,
        from_reference=(False, False),
        member=None,
        policy_version=NO_POLICY_VERSION,
        strategy=IMPORTED,
        oracle=source,
        labels=IMPORTED,
        flip_noise=0.0,
        prompt_messages=None if isinstance(written.prompt, str) else written.prompt,
    )


def _preference(row: Mapping[str, Any], found_at: str) -> Preference:
    place = f"preferences: {found_at}"
    for column in COLUMNS:
        if column not in row:
            raise ConfigError(f"{place}: there is no column {column!r}{nearest(column, row)}")

    def read(column: str, reader: Callable[..., Any], *more: Any) -> Any:
        try:
            content = reader(row[column], *more)
            check_characters(as_text(content))
        except ValueError as error:
            raise ConfigError(f"{place}: {column} {error}") from error
        return content

    prompt = read("prompt", read_prompt)
    if len(prompt) == 1 and not isinstance(prompt, str):
        prompt = as_text(prompt)  # what one user's turn says is a text to every run
    if not as_text(prompt).strip():
        raise ConfigError(f"{place}: prompt is empty")
    chosen, rejected = (read(name, read_response, prompt).strip() for name in COLUMNS[1:])
    if chosen == rejected:
        raise ConfigError(f"{place}: chosen and rejected are the same text")
    return Preference(prompt, chosen, rejected, found_at)
