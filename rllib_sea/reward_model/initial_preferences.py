"""The labels that a new run starts from: those of another run's preference log, or of an import."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.log import PreferenceReader
from rllib_sea.preference_log.records import LogEntry, PreferenceLogError
from rllib_sea.preference_log.written_preferences import (
    Preference,
    TokenizedPreference,
    tokenize_preferences,
)
from text_duel.conversations import as_text
from text_duel.errors import ConfigError
from text_duel.paths import user_path
from text_duel.verdicts import Label

KEY = "initial_preferences"
_ENTRIES_AT_ONCE = 1024


def check_initial_preferences(path: Any) -> None:
    """Checks that a run can start from a log.

    Args:
        path: The value of ``initial_preferences``; None is right, too.

    Raises:
        ConfigError: It is no readable preference log, or has no answer that prefers a response.
    """
    if path is None:
        return
    if not isinstance(path, str | Path):
        raise ConfigError(f"{KEY}: {path!r} is not the path of a preference log")
    if Path(path).suffix in (".jsonl", ".json", ".csv", ".gz", ".parquet"):
        raise ConfigError(
            f"{KEY}: {path} is no preference log: make one with `rllib-sea preferences import`"
        )
    try:
        with _open(path) as log:
            decided = log.query("SELECT 1 FROM standing_labels WHERE preference != 0.5 LIMIT 1")
            if next(decided, None) is None:
                raise ConfigError(f"{KEY}: {path} has no answer that prefers a response")
    except PreferenceLogError as error:
        raise ConfigError(f"{KEY}: {error}") from error


def read_initial_preferences(
    path: str | Path,
    tokenizer: PromptTokenizer,
    policy_model: str,
    warn: Callable[[str], None],
    held_out: Collection[str] = (),
) -> list[TokenizedPreference]:
    """Reads the labels that a run starts from; ties, skips and open questions are left out.

    The tokens that were sampled are kept if they are this policy's: if this tokenizer makes
    the logged prompt of the prompt's text, and the logged responses decode to their texts. That
    says more than the model's name: models share tokenizers, and a folder may get another model.
    Otherwise the texts are tokenized anew, as whole responses.

    Args:
        path: A preference log.
        tokenizer: This run's.
        policy_model: The model's name, for messages.
        warn: Told of the labels that are left out: those that do not fit the model's context, and
            those of held-out prompts.
        held_out: The texts of the run's held-out prompts.

    Returns:
        The preferences that are left, in the log's order, at least one.

    Raises:
        ConfigError: None is left, or a prompt is a conversation that this policy cannot take.
        PreferenceLogError: The log cannot be read.
    """
    kept: list[TokenizedPreference] = []
    too_long: list[str] = []
    num_held_out = 0
    with _open(path) as log:
        for entries in _parts(log.read()):
            texts = [_texts(entry) for entry in entries]
            written = tokenize_preferences(texts, tokenizer, f"{KEY}: {path}")
            for entry, tokenized in zip(entries, written, strict=True):
                if as_text(tokenized.prompt) in held_out:
                    num_held_out += 1
                    continue
                logged = _as_logged(entry, tokenized.place)
                if _is_of(tokenizer, logged, tokenized.prompt_token_ids):
                    tokenized = logged
                if tokenized.num_tokens > tokenizer.context_length:
                    too_long.append(tokenized.place)
                else:
                    kept.append(tokenized)
    if too_long:
        warn(
            f"{len(too_long)} labels of {path} are left out, longer than "
            f"{tokenizer.context_length} tokens, the context of {policy_model}: "
            f"{too_long[0]}{' and others' if too_long[1:] else ''}"
        )
    if num_held_out:
        warn(f"{num_held_out} labels of {path} are left out: their prompts are held out")
    if not kept:
        raise ConfigError(
            f"{KEY}: no label of {path} is left: {len(too_long)} do not fit the model's context, "
            f"{num_held_out} are of held-out prompts"
        )
    return kept


def _open(path: str | Path) -> PreferenceReader:
    return PreferenceReader(user_path(path, "initial_preferences"))


def _parts(entries: Iterator[LogEntry]) -> Iterator[list[LogEntry]]:
    """The entries whose label prefers a response, some at a time."""
    decided = (entry for entry in entries if entry.is_decided)
    while some := list(islice(decided, _ENTRIES_AT_ONCE)):
        yield some


def _in_order(entry: LogEntry) -> tuple[Candidate, Candidate, Label]:
    """The chosen and the rejected response of a label that prefers one, and how much it does."""
    question, label = entry.question, entry.label
    assert label is not None
    if label.preference > 0.5:
        return question.first, question.second, label
    return question.second, question.first, replace(label, preference=1.0 - label.preference)


def _texts(entry: LogEntry) -> Preference:
    question = entry.question
    chosen, rejected, label = _in_order(entry)
    place = f"round {question.round}, position {question.position}"
    return Preference(question.prompt, chosen.text, rejected.text, place, label)


def _as_logged(entry: LogEntry, place: str) -> TokenizedPreference:
    question = entry.question
    chosen, rejected, label = _in_order(entry)
    return TokenizedPreference(
        question.prompt, question.prompt_token_ids, chosen, rejected, place, label
    )


def _is_of(
    tokenizer: PromptTokenizer, logged: TokenizedPreference, prompt_token_ids: Sequence[int]
) -> bool:
    """Whether logged tokens are those of the tokenizer."""
    if logged.prompt_token_ids != prompt_token_ids:
        return False
    return all(
        response.token_ids
        and max(response.token_ids) < len(tokenizer.tokenizer)
        and tokenizer.decode(response.token_ids) == response.text
        for response in (logged.chosen, logged.rejected)
    )
