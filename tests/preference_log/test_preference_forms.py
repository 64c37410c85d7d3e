"""Preferences as others write them: each form known by its columns, nothing doubled or cut."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_log.importing import import_preferences, read_preferences
from rllib_sea.preference_log.log import PreferenceReader
from rllib_sea.preference_log.preference_forms import END_TOKENS
from rllib_sea.preference_log.written_preferences import Preference
from text_duel.errors import ConfigError
from text_duel.verdicts import Label

TIE = Label(0.5)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


# -- Forms ------------------------------------------------------------------------------------

FORMS: dict[str, tuple[dict[str, Any], Preference]] = {
    "TRL, explicit": (
        {"prompt": "Q", "chosen": " yes", "rejected": " no"},
        Preference("Q", "yes", "no"),
    ),
    "TRL, explicit, conversational": (
        {"prompt": [user("Q")], "chosen": [assistant("yes")], "rejected": [assistant("no")]},
        Preference("Q", "yes", "no"),
    ),
    "TRL, implicit, conversational": (
        {
            "chosen": [user("Q"), assistant("yes")],
            "rejected": [user("Q"), assistant("no")],
        },
        Preference("Q", "yes", "no"),
    ),
    "prompt repeated in both responses": (
        {"prompt": "Q: why?", "chosen": "Q: why? yes", "rejected": "Q: why? no"},
        Preference("Q: why?", "yes", "no"),
    ),
    "UltraFeedback, binarized": (
        {
            "prompt": "Q",
            "prompt_id": "f0e37e9f7800261167ce91143f98f511f768847236f133f2d0aed60b444ebe57",
            "chosen": [user("Q"), assistant("yes")],
            "rejected": [user("Q"), assistant("no")],
            "messages": [user("Q"), assistant("yes")],
            "score_chosen": 8.5,
            "score_rejected": 6.0,
        },
        Preference("Q", "yes", "no"),
    ),
    "HH-RLHF": (
        {
            "chosen": "\n\nHuman: Q\n\nAssistant: I do\n\nHuman: R\n\nAssistant: yes",
            "rejected": "\n\nHuman: Q\n\nAssistant: I do\n\nHuman: R\n\nAssistant: yesterday",
        },
        Preference("\n\nHuman: Q\n\nAssistant: I do\n\nHuman: R\n\nAssistant:", "yes", "yesterday"),
    ),
    "HH-RLHF with a prompt": (
        {
            "prompt": "\n\nHuman: Q\n\nAssistant:",
            "chosen": "\n\nHuman: Q\n\nAssistant: yes",
            "rejected": "\n\nHuman: Q\n\nAssistant: no",
        },
        Preference("\n\nHuman: Q\n\nAssistant:", "yes", "no"),
    ),
    "Argilla, binarized": (
        {
            "instruction": "Q",
            "chosen_response": "yes",
            "rejected_response": "no",
            "chosen_avg_rating": 5.0,
            "rejected_avg_rating": 3.5,
        },
        Preference("Q", "yes", "no"),
    ),
    "distilabel, a prompt column of another name": (
        {"system": "", "input": "Q", "chosen": "yes", "rejected": "no", "rating": [9, 7]},
        Preference("Q", "yes", "no"),
    ),
    "distilabel, ratings": (
        {"instruction": "Q", "generations": ["so", "no", "yes"], "ratings": [3.0, 1.0, 5.0]},
        Preference("Q", "yes", "no"),
    ),
    "some without a rating": (
        {"instruction": "Q", "generations": ["so", "no", "yes"], "ratings": [3.0, None, 5.0]},
        Preference("Q", "yes", "so"),
    ),
    "rankings, of which 1 is the best": (
        {"prompt": "Q", "responses": ["so", "yes", "no"], "rankings": [2, 1, 3]},
        Preference("Q", "yes", "no"),
    ),
    "a label of two, the first": (
        {"prompt": "Q", "first": "a", "second": "b", "label": 1},
        Preference("Q", "a", "b"),
    ),
    "a label of two, the second": (
        {"prompt": "Q", "first": "a", "second": "b", "label": "0"},
        Preference("Q", "b", "a"),
    ),
    "a label of two, a tie": (
        {"prompt": "Q", "first": "a", "second": "b", "label": "Tie"},
        Preference("Q", "a", "b", label=TIE),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_known_by_its_columns(name: str, tmp_path: Path) -> None:
    row, expected = FORMS[name]
    path = write(tmp_path / "rows.jsonl", [row, row])
    found = read_preferences(path)
    assert found.preferences == [expected, expected]
    assert (found.num_rows, found.num_end_tokens, found.left_out) == (2, 0, {})
    read, _, others = found.form.partition("; not read: ")
    named = [part.partition(" (")[::2] for part in read.split(", ")]
    columns = [(name or role).rstrip(")") for role, name in named]
    assert {*columns, *filter(None, others.split(", "))} == row.keys()
    # The same as Parquet, which has one type for each column.
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    assert read_preferences(tmp_path / "rows.parquet").preferences == [expected]


@pytest.mark.parametrize("end", END_TOKENS)
def test_an_end_token_that_is_written_as_text_is_not_doubled(tmp_path: Path, end: str) -> None:
    rows = [
        {"prompt": "Q", "chosen": f"yes{end}\n", "rejected": f"no {end}{end}"},
        {"prompt": "Q", "chosen": f"{end} is a token", "rejected": "no"},
    ]
    found = read_preferences(write(tmp_path / "rows.jsonl", rows))
    assert found.preferences == [
        Preference("Q", "yes", "no"),
        Preference("Q", f"{end} is a token", "no"),
    ]
    assert found.num_end_tokens == 2


def test_an_imported_response_ends_once(tmp_path: Path, tiny_policy: Path) -> None:
    tokenizer = PromptTokenizer(tiny_policy)
    end = tokenizer.tokenizer.convert_ids_to_tokens(min(tokenizer.eos_token_ids))
    rows = [{"prompt": "Q", "chosen": f"yes{end}", "rejected": "no"}]
    log = tmp_path / "log.sqlite"
    import_preferences(write(tmp_path / "rows.jsonl", rows), log, str(tiny_policy))
    with PreferenceReader(log) as reader:
        (entry,) = reader.read()
    for response, text in ((entry.question.first, "yes"), (entry.question.second, "no")):
        assert response.text == text
        ends = [token for token in response.token_ids if token in tokenizer.eos_token_ids]
        assert len(ends) == 1
        assert tokenizer.decode(response.token_ids) == text


def test_ties_are_answers_and_no_preferences(tmp_path: Path, tiny_policy: Path) -> None:
    rows = [FORMS[f"a label of two, {name}"][0] for name in ("the first", "a tie", "the second")]
    log = tmp_path / "log.sqlite"
    import_preferences(write(tmp_path / "rows.jsonl", rows), log, str(tiny_policy))
    with PreferenceReader(log) as reader:
        assert [entry.label for entry in reader.read()] == [Label(1.0), TIE, Label(1.0)]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (
            "HH-RLHF",
            {"rejected": "\n\nHuman: Q\n\nAssistant: I\n\nHuman: S\n\nAssistant: no"},
            "the two differ before the last response",
        ),
        ("distilabel, ratings", {"ratings": [1, 1, 1]}, "all ratings are equal"),
        (
            "rankings, of which 1 is the best",
            {"rankings": [1, None, None]},
            "fewer than two responses have rankings",
        ),
    ],
)
def test_rows_without_a_preference_are_left_out_and_counted(
    tmp_path: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    good, expected = FORMS[name]
    path = write(tmp_path / "rows.jsonl", [good, good | changes])
    found = read_preferences(path)
    assert found.preferences == [expected]
    assert found.left_out == {reason: [f"{path}:2"]}
    with pytest.raises(ConfigError, match=f"has no preference: {reason}"):
        read_preferences(write(path, [good | changes]))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"a": 1, "b": 2}, ":1: there is no column 'prompt'; there are a, b; expected prompt, "),
        ({"chosen": "yes", "rejected": "no"}, ":1: chosen: expected messages, or a transcript"),
        (
            {"prompt": "Q", "first": "a", "second": "b", "label": 2},
            ":1: label: 2 is none of 1 (or first",
        ),
        (
            {"prompt": "Q", "responses": ["a", "b"], "ratings": [1]},
            ":1: ratings: expected a list, one for each response",
        ),
        (
            {"prompt": "Q", "chosen": "yes</s>", "rejected": "yes"},
            ":1: chosen and rejected are the same text",
        ),
    ],
)
def test_anything_else_is_one_line_with_file_and_row(
    tmp_path: Path, row: dict[str, Any], expected: str
) -> None:
    path = write(tmp_path / "rows.jsonl", [row])
    with pytest.raises(ConfigError) as error:
        read_preferences(path)
    assert f"preferences: {path}{expected}" in str(error.value)
    assert "\n" not in str(error.value)


# -- Files ------------------------------------------------------------------------------------

CSV = '\ufeffprompt,chosen,rejected\nQ,"a ""quoted"", and\nlong text",2\n\nNA,null,1e5\n'
AS_READ = [
    Preference("Q", 'a "quoted", and\nlong text', "2"),
    Preference("NA", "null", "1e5"),
]


def test_csv_is_text_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(CSV, encoding="utf-8")
    assert read_preferences(path).preferences == AS_READ
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_preferences(tmp_path / "rows.csv.gz").preferences == AS_READ
    path.write_text(f"prompt,chosen,rejected\nQ,{'x' * 200_000},b\n")
    assert len(read_preferences(path).preferences[0].chosen) == 200_000


def test_json_is_a_list_or_lines_and_may_be_compressed(tmp_path: Path) -> None:
    row, expected = FORMS["TRL, explicit"]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row, row], indent=1))
    assert read_preferences(path).preferences == [expected] * 2
    write(path, [row, row])
    assert read_preferences(path).preferences == [expected] * 2
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_preferences(packed).preferences == [expected] * 2


def test_what_both_conversations_begin_with_may_have_several_turns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    talk = [user("Q"), assistant("a"), user("R")]
    row = {"chosen": [*talk, assistant("yes")], "rejected": [*talk, assistant("no")]}
    write(path, [row])
    assert read_preferences(path).preferences == [Preference(tuple(talk), "yes", "no")]


def test_messages_as_others_write_them_and_what_of_them_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {
        "prompt": [{"from": "human", "value": "Q", "weight": 0}],
        "chosen": [assistant("yes") | {"name": "b", "tool_calls": None}],
        "rejected": [{"from": "gpt", "value": "no"}],
    }
    write(path, [row])
    found = read_preferences(path)
    assert found.preferences == [Preference("Q", "yes", "no")]
    assert found.form == "prompt, chosen, rejected; not read of messages: name, weight"
    write(path, [row, row | {"chosen": [assistant("yes") | {"tool_calls": [{"id": 1}]}]}])
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: chosen has tool_calls in message 1: "):
        read_preferences(path)
