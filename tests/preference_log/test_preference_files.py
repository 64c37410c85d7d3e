"""Preferences as files: what TRL and `datasets` read, and what is read from others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rllib_sea.cli.preferences import Format
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.export import FORMATS, export_preferences
from rllib_sea.preference_log.importing import import_preferences, read_preferences
from rllib_sea.preference_log.log import PreferenceLog, PreferenceReader
from rllib_sea.preference_log.records import PreferenceLogError, RunRecord
from rllib_sea.preference_log.written_preferences import Preference
from tests.helpers.preference_log_cases import (
    RUN,
    fill,
    give,
    question,
    response,
    verdict,
)
from text_duel.conversations import as_text, turn
from text_duel.errors import ConfigError

PLAIN = dataclasses.replace(RUN, chat=False)


def exported(
    tmp_path: Path, file_format: str, run: RunRecord, *, all_columns: bool = False
) -> Path:
    """The export of :func:`fill`'s log."""
    fill(tmp_path / "log.sqlite", run)
    output = tmp_path / f"out.{file_format}"
    with PreferenceReader(tmp_path / "log.sqlite") as log:
        assert export_preferences(log, file_format, output, all_columns=all_columns) == 4
    return output


def load(path: Path, cache: Path) -> list[dict[str, Any]]:
    kind = {".jsonl": "json", ".parquet": "parquet"}[path.suffix]
    return datasets.load_dataset(
        kind, data_files=str(path), split="train", cache_dir=str(cache)
    ).to_list()


def test_the_command_offers_every_format() -> None:
    assert {str(name) for name in Format} == set(FORMATS)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_chat_run_is_conversations(tmp_path: Path, file_format: str) -> None:
    rows = load(exported(tmp_path, file_format, RUN), tmp_path / "cache")
    asked = [question(0, 0), question(0, 1), question(1, 0), question(1, 1)]
    assert rows == [
        {
            "prompt": [{"role": "user", "content": q.prompt_text}],
            "chosen": [{"role": "assistant", "content": won.text}],
            "rejected": [{"role": "assistant", "content": lost.text}],
        }
        for q, won, lost in (
            (asked[0], asked[0].first, asked[0].second),
            (asked[1], asked[1].second, asked[1].first),
            (asked[2], asked[2].first, asked[2].second),
            (asked[3], asked[3].second, asked[3].first),
        )
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_plain_run_is_texts_that_can_be_joined(tmp_path: Path, file_format: str) -> None:
    rows = load(exported(tmp_path, file_format, PLAIN), tmp_path / "cache")
    assert [list(row) for row in rows] == [["prompt", "chosen", "rejected"]] * 4
    first = question(0, 0)
    assert rows[0]["prompt"] + rows[0]["chosen"] == f"{first.prompt_text} {first.first.text}"


def test_after_white_space_a_response_begins_at_once(tmp_path: Path) -> None:
    with PreferenceLog(tmp_path / "log.sqlite", PLAIN) as log:
        log.ask(0, [question(0, 0, prompt_text="Summary:\n", first=response("yes"))])
        give(log, 0, {0: verdict()})
        export_preferences(log, "jsonl", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text())["chosen"] == "yes"


@pytest.mark.parametrize("chat", [True, False])
def test_trl_makes_the_tokens_that_the_policy_saw(
    tmp_path: Path, tiny_policy: Path, chat: bool
) -> None:
    """As TRL's DPOTrainer does: the template on messages, or prompt and response joined."""
    run = dataclasses.replace(RUN, chat=chat)
    policy = PromptTokenizer(tiny_policy, chat=chat)
    path = exported(tmp_path, "jsonl", run)
    tokenizer = policy.tokenizer
    for row, known in zip(
        load(path, tmp_path / "cache"), read_preferences(path).preferences, strict=True
    ):
        if chat:
            prompt = tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, return_dict=True
            )
            both = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], return_dict=True)
        else:
            prompt = tokenizer(row["prompt"])
            both = tokenizer(row["prompt"] + row["chosen"])
        length = len(prompt["input_ids"])
        assert tuple(prompt["input_ids"]) == policy.encode(known.prompt)
        assert both["input_ids"][:length] == prompt["input_ids"]
        assert policy.decode(both["input_ids"][length:]) == known.chosen


@pytest.mark.parametrize("file_format", FORMATS)
def test_all_columns(tmp_path: Path, file_format: str) -> None:
    path = exported(tmp_path, file_format, RUN, all_columns=True)
    rows = load(path, tmp_path / "cache")
    assert len(rows) == 4
    second, last = rows[1], rows[3]
    asked = question(0, 1)
    expected = {
        "run_id": "run-a",
        "round": 0,
        "position": 1,
        "prompt_id": "post-1",
        "preference": 1.0,
        "weight": 1.0,
        "label_rule": "single",
        "raters": ["length-1"],
        "choices": ["chosen"],
        "win_probability": 2 / 3,
        "chosen_score": -0.7,
        "rejected_score": 0.1,
        "strength": None,
        "strategy": "bai_ts",
        "member": 1,
        "policy_version": 0,
        "oracle": "length-1",
        "labels": "bradley_terry",
        "flip_noise": 0.1,
        "shown_first": None,
        "seconds": None,
        "prompt_token_ids": [5, 0, 1],
        "chosen_token_ids": list(asked.second.token_ids),
        "rejected_token_ids": list(asked.first.token_ids),
        "chosen_finish_reason": "length",
        "rejected_finish_reason": "stop",
        "chosen_from_reference": True,
        "rejected_from_reference": False,
    }
    assert {name: second[name] for name in expected} == expected
    assert set(second) - set(expected) == {
        *("prompt", "chosen", "rejected", "asked_at", "answered_at")
    }
    assert (last["member"], last["strength"], last["raters"]) == (None, 2.0, ["ann"])


def test_many_rows_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllib_sea.preference_log.export._ROWS_AT_ONCE", 3)
    path = exported(tmp_path, "parquet", RUN)
    assert pq.ParquetFile(path).metadata.num_row_groups == 2
    assert len(read_preferences(path).preferences) == 4


def test_an_export_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "log.sqlite")
    output = tmp_path / "out.jsonl"

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with PreferenceReader(tmp_path / "log.sqlite") as log:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", fail)
            with pytest.raises(PreferenceLogError, match="No space left on device"):
                export_preferences(log, "jsonl", output)
        with pytest.raises(PreferenceLogError, match="No such file"):
            export_preferences(log, "jsonl", tmp_path / "missing" / "out.jsonl")
        # A log is never written over.
        with pytest.raises(PreferenceLogError, match="exists: name a new file"):
            export_preferences(log, "jsonl", log.path)
    assert not output.exists()
    assert not list(tmp_path.glob("*.part"))
    with PreferenceReader(tmp_path / "log.sqlite") as log:
        assert log.num_answered() == 6


def test_a_log_without_preferences_is_not_exported(tmp_path: Path) -> None:
    with PreferenceLog(tmp_path / "log.sqlite", RUN) as log:
        log.ask(0, [question(0, 0), question(0, 1)])
        give(log, 0, {0: verdict("tie")})
        with pytest.raises(PreferenceLogError, match="has no preferences to export"):
            export_preferences(log, "parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


# -- Reading --------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("run", [RUN, PLAIN], ids=["chat", "plain"])
@pytest.mark.parametrize("all_columns", [False, True])
def test_an_export_is_read_as_it_was(
    tmp_path: Path, file_format: str, run: RunRecord, all_columns: bool
) -> None:
    path = exported(tmp_path, file_format, run, all_columns=all_columns)
    asked = [question(0, 0), question(0, 1), question(1, 0), question(1, 1)]
    first_won = [True, False, True, False]
    assert read_preferences(path).preferences == [
        Preference(q.prompt_text, *((q.first.text, q.second.text)[:: 1 if won else -1]))
        for q, won in zip(asked, first_won, strict=True)
    ]


def test_other_peoples_files(tmp_path: Path) -> None:
    """Blank lines, a line separator inside a text, more columns, whole conversations."""
    user, good, bad = (
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": " good "},
        {"role": "assistant", "content": ""},
    )
    rows = [
        {"prompt": "Q \u2028 1", "chosen": "a", "rejected": "b", "score": 1},
        {"prompt": "Q", "chosen": [user, good], "rejected": [user, bad]},
        {"prompt": [user], "chosen": [good], "rejected": [bad]},
    ]
    path = tmp_path / "others.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    assert read_preferences(path).preferences == [
        Preference("Q \u2028 1", "a", "b"),
        Preference("Q", "good", ""),
        Preference("Q", "good", ""),
    ]


TALK = (
    *turn("system", "Be brief \N{SNOWMAN}."),
    *turn("user", "Hi"),
    *turn("assistant", "Ho"),
    *turn("user", "And?"),
)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_conversation_goes_out_and_comes_in(
    tmp_path: Path, tiny_policy: Path, file_format: str
) -> None:
    """As messages for `datasets` and TRL, and as the same tokens and messages in a log."""
    run = dataclasses.replace(RUN, policy_model=str(tiny_policy))
    policy = PromptTokenizer(tiny_policy)
    asked = [
        question(0, 0, prompt_messages=TALK, prompt_text=as_text(TALK)),
        question(0, 1, prompt_messages=turn("user", "Q"), prompt_text="Q"),
        question(0, 2, prompt_text="A text."),
    ]
    output = tmp_path / f"out.{file_format}"
    with PreferenceLog(tmp_path / "log.sqlite", run) as log:
        log.ask(0, asked)
        give(log, 0, {i: verdict() for i in range(3)})
        export_preferences(log, file_format, output)
    rows = load(output, tmp_path / "cache")
    texts = [turn("user", "Q"), turn("user", "A text.")]
    assert [row["prompt"] for row in rows] == [list(TALK), *map(list, texts)]
    assert rows[0]["chosen"] == list(turn("assistant", asked[0].first.text))
    whole = policy.tokenizer.apply_chat_template(
        rows[0]["prompt"], add_generation_prompt=True, return_dict=True
    )
    assert policy.encode(TALK) == tuple(whole["input_ids"])

    made = import_preferences(output, tmp_path / "again.sqlite", str(tiny_policy))
    assert (made.num_preferences, made.num_prompts) == (3, 3)
    with PreferenceReader(tmp_path / "again.sqlite") as log:
        again = [entry.question for entry in log.read()]
    assert [q.prompt for q in again] == [TALK, "Q", "A text."]
    assert [q.prompt_text for q in again] == [as_text(TALK), "Q", "A text."]
    assert again[0].prompt_token_ids == policy.encode(TALK)
    assert again[0].first.text == asked[0].first.text


def test_a_conversation_before_a_response_is_not_the_response(tmp_path: Path) -> None:
    row = {name: [*TALK, *turn("assistant", name)] for name in ("chosen", "rejected")}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"prompt": TALK, **row}]))
    assert read_preferences(path).preferences == [Preference(TALK, "chosen", "rejected")]
    path.write_text(json.dumps([{"prompt": TALK[1:], **row}]))
    with pytest.raises(ConfigError, match="row 1: chosen has messages of the roles system, user"):
        read_preferences(path)


def test_a_conversation_needs_a_model_that_chats(tmp_path: Path, tiny_policy: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": TALK, "chosen": "a", "rejected": "b"}))
    with pytest.raises(ConfigError, match=r"^preferences: .*rows\.jsonl:1: a conversation needs"):
        import_preferences(path, tmp_path / "log.sqlite", str(tiny_policy), chat=False)
    assert not (tmp_path / "log.sqlite").exists()


GOOD = {"prompt": "p", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        ({"prompt": "p", "chosen": "a"}, "there is no column 'rejected'"),
        ({"prompt": "p", "chosn": "a", "rejected": "b"}, "'chosen' (did you mean 'chosn'?)"),
        (GOOD | {"prompt": " "}, "prompt is empty"),
        (GOOD | {"prompt": None}, "prompt is null, expected text or a conversation"),
        (GOOD | {"prompt": "a\ud83d"}, "prompt has half of a character"),
        (GOOD | {"chosen": "a\ud83d"}, "chosen has half of a character"),
        (GOOD | {"chosen": 1}, "chosen is the number 1, expected text"),
        (GOOD | {"rejected": "a "}, "chosen and rejected are the same text"),
        (GOOD | {"chosen": [{"role": "user", "content": "x"}]}, "chosen has messages of the roles"),
        (GOOD | {"prompt": [{"role": "system", "content": "x"}]}, "prompt ends in a turn of role"),
        (GOOD | {"prompt": []}, "prompt is an empty list"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, bad: Any, expected: str) -> None:
    path = tmp_path / "bad.jsonl"
    line = bad if isinstance(bad, str) else json.dumps(bad)
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(ConfigError) as error:
        read_preferences(path)
    assert f"preferences: {path}:3: " in str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.Table.from_pylist([GOOD, GOOD | {"chosen": None}]), path)
    with pytest.raises(ConfigError, match=r"bad\.parquet, row 2: chosen is null, expected"):
        read_preferences(path)
    pq.write_table(pa.table({"prompt": ["p"], "chosen": ["a"]}), path)
    with pytest.raises(ConfigError, match="row 1: there is no column 'rejected'"):
        read_preferences(path)


def test_a_bad_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "rows.tsv").write_text("prompt,chosen,rejected\n")
    (tmp_path / "wide.jsonl").write_bytes(json.dumps(GOOD).encode("utf-16"))
    for name, expected in (
        ("empty.jsonl", "has no rows"),
        ("text.parquet", "not valid Parquet"),
        ("rows.tsv", "is no file that ends in .jsonl, .json, .csv (each also .gz) or .parquet"),
        ("wide.jsonl", "wide.jsonl is in UTF-16, expected UTF-8"),
        ("missing.jsonl", "No such file"),
        ("missing.parquet", "missing.parquet"),
    ):
        with pytest.raises(ConfigError) as error:
            read_preferences(tmp_path / name)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
