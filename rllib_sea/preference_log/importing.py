"""Preferences that exist already, from files of others, and as a preference log."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rllib_sea.policy.models import resolve_model
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.log import PreferenceLog
from rllib_sea.preference_log.preference_forms import END_TOKENS, LeftOut, find_form, without_end
from rllib_sea.preference_log.records import (
    IMPORTED,
    PreferenceLogError,
    Question,
    RunRecord,
)
from rllib_sea.preference_log.written_preferences import (
    Preference,
    tokenize_preferences,
)
from text_duel.conversations import unread_keys
from text_duel.errors import ConfigError
from text_duel.sources import FileSource
from text_duel.verdicts import Choice, Verdict


@dataclass(frozen=True, slots=True)
class ReadPreferences:
    """What a file holds.

    Attributes:
        preferences: At least one, in the file's order.
        form: The form that it is written in, in words: its columns by what they hold, and what of
            it is not read.
        num_rows: Rows of the file.
        num_end_tokens: Responses that have lost an end token, which somebody wrote as text.
        left_out: Places of the rows that are not among the preferences, by the reason.
    """

    preferences: list[Preference]
    form: str
    num_rows: int
    num_end_tokens: int
    left_out: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made.

    Attributes:
        read: What the file holds.
        num_preferences: Preferences in the log.
        num_open: Questions in it that nobody has answered: rows without a label.
        num_prompts: Their different prompts.
        left_out: Places of the rows that are not in the log, by the reason.
    """

    read: ReadPreferences
    num_preferences: int
    num_open: int
    num_prompts: int
    left_out: dict[str, list[str]]


def read_preferences(path: str | Path, columns: Mapping[str, str] | None = None) -> ReadPreferences:
    """Reads a file of preferences in any form of :mod:`rllib_sea.preference_log.preference_forms`.

    The form is that of the first row, and all rows have it. End tokens that somebody wrote into the
    responses are taken off.

    Args:
        path: A file of a kind of :data:`text_duel.sources.KINDS`.
        columns: Names of columns by their roles, where they are not the usual ones.

    Raises:
        ConfigError: The file cannot be read, has no preferences, is of no form that is known, or a
            row is not of the file's form: the message names its place.
    """
    path, form = Path(path), None
    found: list[Preference] = []
    left_out: dict[str, list[str]] = {}
    num_rows = num_end_tokens = 0
    unread: set[str] = set()
    for place, row in FileSource(path, "preferences").rows():
        num_rows += 1
        form = form or find_form(row, place, columns or {})
        try:
            preference, num_ended = form.preference(row, place)
            found.append(preference)
            num_end_tokens += num_ended
            for name in form.columns.values():
                unread |= unread_keys(row[name])
        except LeftOut as reason:
            left_out.setdefault(str(reason), []).append(place)
    if not num_rows:
        raise ConfigError(f"preferences: {path} has no rows")
    if not found:
        raise ConfigError(f"preferences: {path} has no preference: {'; '.join(left_out)}")
    of_messages = f"; not read of messages: {', '.join(sorted(unread))}" if unread else ""
    return ReadPreferences(found, f"{form}{of_messages}", num_rows, num_end_tokens, left_out)


def import_preferences(
    file: Path,
    output: Path,
    policy_model: str,
    chat: bool | None = None,
    columns: Mapping[str, str] | None = None,
) -> Imported:
    """Writes preferences that exist already as a preference log, which appears whole or not at all.

    Each is an answered question of round 0, in the file's order, its preferred response the first.
    Rows without a label are open questions, for people.

    Args:
        file: See :func:`read_preferences`.
        output: The log, a file that does not exist yet.
        policy_model: The model whose tokens are written: a name or a folder, as in a run.
        chat: Whether its prompts are wrapped in its chat template; None: if it has one.
        columns: See :func:`read_preferences`.

    Raises:
        ConfigError: The file cannot be read, the model cannot be found, or not one preference
            fits it.
        PreferenceLogError: The log exists already or cannot be written.
    """
    if output.exists():
        raise PreferenceLogError(f"{output} exists: name a new file, or remove it")
    found = read_preferences(file, columns)
    tokenizer = PromptTokenizer(resolve_model(policy_model), chat)
    own = set(tokenizer.tokenizer.convert_ids_to_tokens(sorted(tokenizer.eos_token_ids)))
    preferences = found.preferences
    if not own <= set(END_TOKENS):
        preferences = [
            replace(p, chosen=without_end(p.chosen, own), rejected=without_end(p.rejected, own))
            for p in preferences
        ]
    source = f"{IMPORTED}({file.name})"
    prompt_ids: dict[str, str] = {}
    questions: list[Question] = []
    verdicts: list[Verdict | None] = []
    too_long: list[str] = []
    for position, written in enumerate(tokenize_preferences(preferences, tokenizer)):
        if written.num_tokens > tokenizer.context_length:
            too_long.append(written.place)
            continue
        prompt = json.dumps(written.prompt)
        prompt_id = prompt_ids.setdefault(prompt, f"{file.stem}-{len(prompt_ids):06d}")
        questions.append(
            Question.imported(
                written.prompt,
                written.chosen,
                written.rejected,
                oracle=source,
                prompt_id=prompt_id,
                position=position,
                prompt_token_ids=written.prompt_token_ids,
            )
        )
        label = written.label
        choice: Choice = "tie" if label is not None and label.is_tie else "first"
        verdicts.append(None if label is None else Verdict(choice))
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
            given = zip(asked, verdicts, strict=True)
            log.give(source, {entry.id: verdict for entry, verdict in given if verdict})
            num_open = log.num_open()
            log.copy_to(output)
    except OSError as error:
        raise PreferenceLogError(f"cannot write {output}: {error.strerror}") from error
    left_out = dict(found.left_out)
    if too_long:
        left_out[f"longer than {tokenizer.context_length} tokens"] = too_long
    return Imported(found, len(questions) - num_open, num_open, len(prompt_ids), left_out)
