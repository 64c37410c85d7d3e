"""Preferences that exist already, from JSON lines or Parquet, and as a preference log."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
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
from text_duel.errors import ConfigError, nearest
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
        prompt_id = prompt_ids.setdefault(written.prompt, f"{file.stem}-{len(prompt_ids):06d}")
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
        prompt_text=written.prompt,
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
    )


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


def _preference(row: Any, found_at: str) -> Preference:
    place = f"preferences: {found_at}"
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
    return Preference(prompt, chosen, rejected, found_at)


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
