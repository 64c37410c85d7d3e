"""Prompts from the bundled set, JSON lines and Hugging Face data sets."""

from pathlib import Path

import pytest

from text_duel import ConfigError, Prompt, load_prompts, prompt_options
from text_duel.hub_source import HubSource
from text_duel.sources import find_source


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_bundled_prompts() -> None:
    train, test = load_prompts("tldr_mini"), load_prompts("tldr_mini", split="test")
    assert (len(train), len(test)) == (324, 64)
    assert len({p.id for p in train} | {p.id for p in test}) == 388
    assert len({p.post for p in train} | {p.post for p in test}) == 388
    assert all(p.reference and p.post and p.text.endswith(p.post) for p in train + test)
    assert set(train[0].fields) == {"id", "topic", "post", "summary"}
    assert load_prompts("tldr_mini", limit=3) == train[:3]
    assert load_prompts("tldr_mini", limit=10_000) == train


def test_json_lines_with_mapped_columns(write_rows) -> None:
    path = write_rows(
        "posts.jsonl",
        [
            {"key": 7, "body": "Ünïcode\u2028post", "tldr": "Short.", "tags": ["ä", 1]},
            {"key": 8, "body": "{x} [[y]]", "tldr": None, "tags": None},
        ],
    )
    prompts = load_prompts(
        str(path),
        template="{post} {body}[[ {tags}]]",
        columns={"id": "key", "post": "body", "reference": "tldr"},
    )
    assert prompts[0] == Prompt(
        id="7",
        text='Ünïcode\u2028post Ünïcode\u2028post ["ä", 1]',
        fields={
            "key": "7",
            "body": "Ünïcode\u2028post",
            "tldr": "Short.",
            "tags": '["ä", 1]',
            "post": "Ünïcode\u2028post",
        },
        reference="Short.",
    )
    assert prompts[1].text == "{x} [[y]] {x} [[y]]"
    assert prompts[1].reference is None


def test_folders_have_splits_and_ids_are_made_where_there_are_none(write_rows) -> None:
    folder = write_rows("train.jsonl", [{"post": "a"}, {"post": "b"}]).parent
    write_rows("valid.jsonl", [{"post": "c"}])
    no_reference = {"columns": {"reference": None}}
    assert [p.id for p in load_prompts(str(folder), **no_reference)] == ["train-0", "train-1"]
    assert [p.id for p in load_prompts(str(folder), split="valid", **no_reference)] == ["valid-0"]
    with pytest.raises(ConfigError) as caught:
        load_prompts(str(folder), split="vaild", **no_reference)
    assert one_line(caught) == (
        f"split: '{folder}' has no split 'vaild', only train, valid (looked in {folder}) "
        "(did you mean 'valid'?)"
    )


def test_a_byte_order_mark_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"post": "a", "summary": "b"}\r\n\r\n{"post":"c","summary":"d"}')
    assert [p.post for p in load_prompts(str(path))] == ["a", "c"]


def test_a_missing_column_is_named(write_rows) -> None:
    path = write_rows("a.jsonl", [{"post": "a", "sumary": "b"}])
    with pytest.raises(ConfigError) as caught:
        load_prompts(str(path))
    assert one_line(caught) == (
        f"columns: {path}:1: there is no column 'summary' for the reference; there are post, "
        "sumary (did you mean 'sumary'?): set `columns: {reference: ...}`, or null where there "
        "are no references"
    )
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: there is no column 'text' for the post"):
        load_prompts(str(path), columns={"post": "text", "reference": None})
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: there is no column 'id' for the id"):
        load_prompts(str(path), columns={"id": "id", "reference": None})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"^prompts: '.*a\.jsonl' has no rows \(read /.*a\.jsonl\)$"),
        (
            [{"id": 1, "post": "a"}, {"id": "1", "post": "b"}],
            r"a\.jsonl:2: the id '1' stands at .*a\.jsonl:1 already$",
        ),
        ([{"id": "", "post": "a"}], r"a\.jsonl:1: the id \(column 'id'\) is empty$"),
        ([{"id": 1, "post": None}], r"a\.jsonl:1: the post \(column 'post'\) is null$"),
        ([["post"]], r"a\.jsonl:1: expected a JSON object, found list$"),
    ],
)
def test_bad_rows(write_rows, rows: list, message: str) -> None:
    path = write_rows("a.jsonl", rows)
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompts(str(path), columns={"reference": None})
    one_line(caught)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for content in (b'{"post": "a", "summary": "b"}\n{"post": ', b'{"post": 1}\n\xff\xfe\n'):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"^prompts: .*a\.jsonl:2: not valid JSON: "):
            load_prompts(str(path), columns={"reference": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"source": "tldr_mina"},
            r"^prompts: 'tldr_mina' is no bundled set .*no path \(looked for",
        ),
        ({"source": "./nowhere.jsonl"}, r"^prompts: no file or folder at /.*nowhere\.jsonl$"),
        ({"source": "nowhere.jsonl"}, r"^prompts: no file or folder at /.*nowhere\.jsonl$"),
        (
            {"source": __file__},
            r"^prompts: /.*\.py is no file that ends in \.jsonl, \.json, .*or \.parquet$",
        ),
        ({"source": 5}, r"^prompts: 5 is not text$"),
        ({"split": "trian"}, r"^split: 'tldr_mini' has no split 'trian', only test, train"),
        ({"split": None}, r"^split: None is not text$"),
        ({"template": 5}, r"^template: 5 is not text$"),
        ({"limit": 0}, r"^limit: 0 is not a whole number of at least 1$"),
        ({"limit": True}, r"^limit: True is not"),
        ({"limit": 1.5}, r"^limit: 1\.5 is not"),
        ({"columns": ["post"]}, r"^columns: \['post'\] is not a mapping"),
        ({"columns": {"refrence": "a"}}, r"^columns: 'refrence' .*\(did you mean 'reference'\?\)$"),
        ({"columns": {"post": None}}, r"^columns: post: None is not a column name$"),
        ({"columns": {"id": 3}}, r"^columns: id: 3 is not a column name$"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompts(**{"source": "tldr_mini", **options})
    one_line(caught)


def test_options_of_an_environments_configuration() -> None:
    assert prompt_options({}) == {"source": "tldr_mini"}
    config = {"prompts": "a.jsonl", "split": "x", "limit": 3, "oracle": "length"}
    assert prompt_options(config) == {"source": "a.jsonl", "split": "x", "limit": 3}


def test_names_of_data_sets() -> None:
    assert find_source("owner/name", "test") == HubSource("owner/name", None, "test")
    assert find_source("o-1/n.a_2:cfg-3", "s") == HubSource("o-1/n.a_2", "cfg-3", "s")
    for name in ("a/b/c", "a/b:c:d", "a b/c"):
        with pytest.raises(ConfigError, match="no Hugging Face data set"):
            find_source(name, "train")


def test_a_data_set_that_the_datasets_package_reads(write_rows) -> None:
    """A local folder is a data set to `load_dataset`, as a name on the hub is."""
    folder = write_rows("train.jsonl", [{"id": 1, "post": "a"}, {"id": 2, "post": "b"}]).parent
    rows = list(HubSource(str(folder), None, "train").rows())
    assert [row for _, row in rows] == [{"id": 1, "post": "a"}, {"id": 2, "post": "b"}]
    assert rows[1][0] == f"{folder} (split train), row 2"
    with pytest.raises(
        ConfigError, match=r"^prompts: cannot load .*split nope.*looked in the cache"
    ):
        list(HubSource(str(folder), None, "nope").rows())
    with pytest.raises(ConfigError, match=r"^prompts: cannot load the data set .*nowhere"):
        list(HubSource(str(folder / "nowhere"), None, "train").rows())
