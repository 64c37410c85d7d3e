"""Preferences as files in the Hugging Face preference format: ``prompt, chosen, rejected``.

TRL's DPOTrainer and ``datasets.load_dataset`` read them as they are. TRL has two forms of the
format (https://huggingface.co/docs/trl/dataset_formats), and which of them trains on the prompts
that the policy saw depends on the run: with a chat template it is the conversational form, to
which TRL applies the template (a prompt that was a text is one user's turn); without one it is the
plain form, whose prompt and response TRL joins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rllib_sea.duels.records import Candidate
from rllib_sea.preference_log.reader import PreferenceReader
from rllib_sea.preference_log.records import LogEntry, PreferenceLogError
from text_duel.conversations import as_messages, joined_to, turn

_ROWS_AT_ONCE = 1024
Rows = Iterator[dict[str, Any]]
# A verdict's choice, said of the chosen and the rejected response, by the order of the two.
_CHOICES = {
    (0, 1): {"first": "chosen", "second": "rejected"},
    (1, 0): {"first": "rejected", "second": "chosen"},
}


def export_preferences(
    log: PreferenceReader, file_format: str, output: Path, *, all_columns: bool = False
) -> int:
    """Writes a log's preferences; ties, skips and open questions are left out.

    The file appears whole, or not at all.

    Args:
        log: An open log.
        file_format: A name of :data:`FORMATS`.
        output: A file that does not exist yet.
        all_columns: Also write what else is known of each duel; see docs/preferences.md.

    Returns:
        How many preferences were written.

    Raises:
        PreferenceLogError: There are none, the file exists or cannot be written.
    """
    if output.exists():
        raise PreferenceLogError(f"{output} exists: name a new file, or remove it")
    chats = {run.run_id: run.chat for run in log.runs()}
    rows = (
        preference_row(entry, chats[entry.run_id], all_columns)
        for entry in log.read()
        if entry.is_decided
    )
    first = next(rows, None)
    if first is None:
        raise PreferenceLogError(f"preference log {log.path} has no preferences to export")
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            number = FORMATS[file_format](chain([first], rows), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, output)
    except OSError as error:
        raise PreferenceLogError(f"cannot write {output}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return number


def preference_row(entry: LogEntry, chat: bool, all_columns: bool) -> dict[str, Any]:
    """A row of the file.

    Args:
        entry: A question whose label prefers a response.
        chat: Whether the policy's prompts were wrapped in a chat template.
        all_columns: Whether to add the metadata.
    """
    question, label = entry.question, entry.label
    assert label is not None
    order = (0, 1) if label.preference > 0.5 else (1, 0)
    responses = (question.first, question.second)
    chosen, rejected = responses[order[0]], responses[order[1]]
    row: dict[str, Any] = {
        "prompt": list(as_messages(question.prompt)) if chat else question.prompt_text,
        "chosen": _response(chosen, question.prompt_text, chat),
        "rejected": _response(rejected, question.prompt_text, chat),
    }
    if not all_columns:
        return row
    verdicts = [given.verdict for given in entry.verdicts]
    scores = verdicts[0].scores or (None, None)
    return row | {
        "run_id": entry.run_id,
        "round": question.round,
        "position": question.position,
        "prompt_id": question.prompt_id,
        "preference": max(label.preference, 1.0 - label.preference),
        "weight": label.weight,
        "label_rule": entry.label_rule,
        "raters": [given.rater for given in entry.verdicts],
        "choices": [_CHOICES[order].get(verdict.choice, verdict.choice) for verdict in verdicts],
        "win_probability": verdicts[0].win_probability,
        "chosen_score": scores[order[0]],
        "rejected_score": scores[order[1]],
        "strength": verdicts[0].strength,
        "seconds": verdicts[0].seconds,
        "shown_first": _CHOICES[order].get(verdicts[0].shown_first or ""),
        "strategy": question.strategy,
        "member": question.member,
        "policy_version": question.policy_version,
        "oracle": question.oracle,
        "labels": question.labels,
        "flip_noise": question.flip_noise,
        "asked_at": entry.asked_at.isoformat(),
        "answered_at": None if entry.answered_at is None else entry.answered_at.isoformat(),
        "prompt_token_ids": list(question.prompt_token_ids),
        "chosen_token_ids": list(chosen.token_ids),
        "rejected_token_ids": list(rejected.token_ids),
        "chosen_finish_reason": chosen.finish_reason,
        "rejected_finish_reason": rejected.finish_reason,
        "chosen_from_reference": question.from_reference[order[0]],
        "rejected_from_reference": question.from_reference[order[1]],
    }


def _response(candidate: Candidate, prompt: str, chat: bool) -> Any:
    # TRL joins texts.
    return list(turn("assistant", candidate.text)) if chat else joined_to(prompt, candidate.text)


def _write_json_lines(rows: Rows, file: Any) -> int:
    number = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        number += 1
    return number


def _write_parquet(rows: Rows, file: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(rows)
    schema = pa.schema([(name, _arrow_type(name, value, pa)) for name, value in first.items()])
    number = 0
    with pq.ParquetWriter(file, schema) as writer:
        rows = chain([first], rows)
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
            number += len(some)
    return number


# By name, since they may be null in the first row.
_FLOATS = (
    *("preference", "weight", "win_probability", "chosen_score", "rejected_score"),
    *("strength", "seconds", "flip_noise"),
)
_INTEGERS = ("round", "position", "member", "policy_version")


def _arrow_type(name: str, value: Any, pa: Any) -> Any:
    if name in _FLOATS:
        return pa.float64()
    if name in _INTEGERS:
        return pa.int64()
    if name.endswith("_token_ids"):
        return pa.list_(pa.int64())
    if name in ("raters", "choices"):
        return pa.list_(pa.string())
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, list):
        return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return pa.string()


FORMATS: dict[str, Callable[[Rows, Any], int]] = {
    "jsonl": _write_json_lines,
    "parquet": _write_parquet,
}
