"""Prompts from every kind of file, and from folders that `datasets` wrote."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from text_duel import ConfigError, load_prompts

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
# What a reader that guesses types would turn into null, a number or a time.
ROWS: list[dict[str, Any]] = [
    {"id": "007", "post": "None", "summary": "NA"},
    {"id": "8", "post": "2020-01-01", "summary": "1.50"},
    {"id": "9", "post": 'two\nlines, "quoted" \u2028', "summary": "nan"},
]


def write_csv(path: Path) -> None:
    cells = "".join(
        ",".join('"' + str(value).replace('"', '""') + '"' for value in row.values()) + "\r\n"
        for row in ROWS
    )
    path.write_bytes(("\ufeffid,post,summary\r\n\r\n" + cells).encode())


def write_gzipped(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def write_both(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_both


def write_lines(path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, ROWS)))


def write_json(path: Path) -> None:
    path.write_text("\ufeff" + json.dumps(ROWS, indent=2))


WRITERS: dict[str, Callable[[Path], None]] = {
    "train.jsonl": write_lines,
    "train.jsonl.gz": write_gzipped(write_lines),
    "train.json": write_json,
    "train.json.gz": write_gzipped(write_json),
    "lines.json": write_lines,
    "train.csv": write_csv,
    "train.csv.gz": write_gzipped(write_csv),
    "train [1]*.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_gives_the_text_that_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    prompts = load_prompts(str(path), template="{post}")
    assert [{"id": p.id, "post": p.text, "summary": p.reference} for p in prompts] == ROWS
    assert [p.fields for p in load_prompts(str(path), limit=2)] == ROWS[:2]


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_a_csv_file_is_read_with_the_delimiter_of_its_header(
    tmp_path: Path, delimiter: str
) -> None:
    lines = [["id", "post", "summary"], ["1", '"a; b,\tc"', "s"], ["2", "d", '"e\nf"']]
    text = "\n" + "".join(delimiter.join(cells) + "\r\n" for cells in lines)
    (tmp_path / "a.csv").write_bytes(text.encode())
    prompts = load_prompts(str(tmp_path / "a.csv"), template="{post}")
    assert [(p.id, p.text, p.reference) for p in prompts] == [
        ("1", "a; b,\tc", "s"),
        ("2", "d", "e\nf"),
    ]
    (tmp_path / "a.csv").write_bytes((text + "3\r\n").encode())
    with pytest.raises(ConfigError, match=r"a\.csv:6: 1 cells, the header has 3 columns"):
        load_prompts(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train.json", "train.csv"])
def test_a_folder_has_a_file_per_split(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    (tmp_path / "README.md").write_text("text")
    assert [p.id for p in load_prompts(str(tmp_path))] == ["007", "8", "9"]
    with pytest.raises(ConfigError, match="has no split 'test', only train"):
        load_prompts(str(tmp_path), split="test")
    write_lines(tmp_path / "train.other.jsonl")
    write_lines(tmp_path / "test.jsonl")
    WRITERS["train [1]*.parquet"](tmp_path / "test.parquet")
    assert len(load_prompts(str(tmp_path))) == 3
    with pytest.raises(ConfigError, match=r"several files of 'test': test\.jsonl, test\.parquet;"):
        load_prompts(str(tmp_path), split="test")


def test_a_saved_folder_has_splits(tmp_path: Path) -> None:
    both = {"train": ROWS[:1], "test": ROWS[1:]}
    saved = {name: datasets.Dataset.from_list(rows) for name, rows in both.items()}
    datasets.DatasetDict(saved).save_to_disk(tmp_path / "saved")
    path = str(tmp_path / "saved")
    assert [p.id for p in load_prompts(path, split="test")] == ["8", "9"]
    with pytest.raises(ConfigError, match=r"has no split 'tset', only train, test .*'test'\?\)$"):
        load_prompts(path, split="tset")
    with pytest.raises(ConfigError, match=r"/test, row 1: there is no column 'text'"):
        load_prompts(path, split="test", columns={"post": "text"})
    (tmp_path / "saved" / "test" / "data-00000-of-00001.arrow").write_bytes(b"none")
    with pytest.raises(ConfigError, match=r"^prompts: .*test: no data set that `datasets` reads"):
        load_prompts(path, split="test")


def test_columns_in_types_of_the_datasets_package(tmp_path: Path) -> None:
    """Messages of different keys are stored as its own type, JSON in a column of text."""
    other = [{"role": "user", "content": [{"type": "text", "text": "Ho"}]}]
    features = datasets.Features({"prompt": datasets.Json()})
    rows = [{"prompt": TALK}, {"prompt": other}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    columns = {"post": "prompt", "reference": None}
    prompts = load_prompts(str(tmp_path / "a.parquet"), columns=columns)
    assert [p.text for p in prompts] == ["System: Be brief.\n\nUser: Hi", "Ho"]


UTF_16 = '{"post": "a"}\n'.encode("utf-16")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", UTF_16, r"a\.jsonl is in UTF-16, expected UTF-8$"),
        ("a.jsonl", UTF_16[2:], r"a\.jsonl is in UTF-16-LE, expected UTF-8$"),
        ("a.json", UTF_16, r"a\.json is in UTF-16, expected UTF-8$"),
        ("a.csv.gz", gzip.compress(UTF_16, mtime=0), r"a\.csv\.gz is in UTF-16, expected UTF-8$"),
        ("a.json", b'[{"post": "a"},\n{"post"]', r"a\.json: not valid JSON: .*line 2"),
        ("a.json", b'[{"post": "a"}, 3]', r"a\.json, row 2: expected a JSON object, found int$"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not valid JSON: "),
        ("a.jsonl.gz", b"no gzip", r"cannot read .*a\.jsonl\.gz: Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"post": 1}', mtime=0)[:-9],
            r"cannot read .*a\.jsonl\.gz: ",
        ),
        ("a.csv", b'post,n\na,1\n\n"b\nc",2\nd\n', r"a\.csv:6: 1 cells, the header has 2 columns$"),
        ("a.csv", b"post,n\na,1,2\n", r"a\.csv:2: 3 cells, the header has 2 columns$"),
        ("a.csv", b"post,post\na,1\n", r"a\.csv:1: two columns have one name$"),
        ("a.csv", b'post\n"a" b\n', r"a\.csv:2: not valid CSV: "),
        ("a.csv", b'post\na\n"b', r"a\.csv:3: not valid CSV: "),
        ("a.csv", "post\na\n\u00fc\n".encode("latin-1"), r"a\.csv:3: not valid UTF-8$"),
        ("a.csv", b"post\n", r"has no rows"),
        ("a.csv", b"", r"has no rows"),
        ("a.json", b"[]", r"has no rows"),
        ("a.parquet", b"no parquet", r"a\.parquet: not valid Parquet: "),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    name: str, content: bytes, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"^prompts: .*{message}") as caught:
        load_prompts(str(tmp_path / name), columns={"reference": None}, template="{post}")
    assert "\n" not in str(caught.value)
    assert not caplog.records


def test_a_path_that_does_not_exist_is_no_name_on_the_hub() -> None:
    for name in ("posts.csv", "data/posts.parquet", "posts.jsonl.gz"):
        with pytest.raises(ConfigError, match=r"^prompts: no file or folder at /"):
            load_prompts(name)


def test_the_bundled_set_needs_neither_datasets_nor_jinja2() -> None:
    code = (
        "import sys, text_duel\n"
        "text_duel.load_prompts('tldr_mini')\n"
        "assert not {'datasets', 'pandas', 'pyarrow', 'jinja2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
