"""What a prompt, a reference and the columns beside them may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from text_duel import ConfigError, load_prompts

USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
SYSTEM = {"role": "system", "content": "Be brief."}
PARTS = [{"type": "text", "text": "Look: "}, {"type": "text", "text": "here", "image_url": None}]
Write = Callable[..., Path]


def only_post(write_rows: Write, *posts: Any, **options: Any) -> list[Any]:
    path = write_rows("a.jsonl", [{"post": post} for post in posts])
    return load_prompts(str(path), columns={"reference": None}, **options)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([USER], "Hi"),
        ([SYSTEM, USER], "System: Be brief.\n\nUser: Hi"),
        ([USER, BOT, USER | {"content": PARTS}], "User: Hi\n\nAssistant: Ho\n\nUser: Look: here"),
        ([SYSTEM | {"content": ""}, USER | {"name": None}], "System: \n\nUser: Hi"),
    ],
)
def test_a_conversation_is_asked_as_it_is(write_rows: Write, messages: list, text: str) -> None:
    (prompt,) = only_post(write_rows, messages)
    assert prompt.text == prompt.post == prompt.fields["post"] == text
    assert [m["role"] for m in prompt.messages] == [m["role"] for m in messages]
    assert all(set(m) == {"role", "content"} for m in prompt.messages)
    assert prompt.content == prompt.messages


def test_messages_as_others_write_them(write_rows: Write) -> None:
    path = write_rows(
        "a.jsonl",
        [
            {"post": [{"from": "system", "value": "S"}, {"from": "human", "value": "A"}]},
            {
                "post": [
                    {"from": "human", "value": "A", "role": None},
                    {"from": "gpt", "value": "B", "weight": 0},
                    {"from": "human", "value": "C"},
                ]
            },
            {
                "post": [
                    {"role": "developer", "content": "S", "name": "x", "tool_calls": None},
                    {"role": "user", "content": "A", "tool_calls": [], "refusal": ""},
                    {"role": "tool", "content": "B", "tool_call_id": "c1"},
                    {"role": "user", "content": "C"},
                ]
            },
        ],
    )
    prompts = load_prompts(str(path), columns={"reference": None})
    assert [[(m["role"], m["content"]) for m in p.messages or ()] for p in prompts] == [
        [("system", "S"), ("user", "A")],
        [("user", "A"), ("assistant", "B"), ("user", "C")],
        [("system", "S"), ("user", "A"), ("tool", "B"), ("user", "C")],
    ]
    assert [sorted(prompt.unread) for prompt in prompts] == [
        [],
        ["weight"],
        ["name", "tool_call_id"],
    ]


def test_a_conversation_stands_in_the_column_that_is_named(write_rows: Write) -> None:
    path = write_rows("a.jsonl", [{"messages": [SYSTEM, USER], "chosen": [BOT]}])
    (prompt,) = load_prompts(str(path), columns={"post": "messages", "reference": "chosen"})
    assert prompt.messages == (SYSTEM, USER)
    assert prompt.reference == "Ho"


def test_a_template_is_about_texts(write_rows: Write) -> None:
    text, talk = only_post(write_rows, "A post.", [USER])
    assert text.text == "Summarise the following post in one short sentence.\n\nA post."
    assert (text.messages, text.content) == (None, text.text)
    assert talk.text == "Hi"
    with pytest.raises(ConfigError, match=r"^template: 'tldr' .* post at .*a\.jsonl:2 is a conver"):
        only_post(write_rows, "A post.", [USER], template="tldr")


@pytest.mark.parametrize(
    ("post", "message"),
    [
        (7, "is the number 7, expected text or a conversation"),
        (True, "is the truth value True, expected"),
        (float("nan"), "is the number nan, expected"),
        ({"text": "a"}, "is an object, expected"),
        ([], "is an empty list, expected"),
        (["a", "b"], "is a list, expected text or a conversation"),
        ([USER, BOT], "ends in a turn of role 'assistant': what is asked ends in one of the user"),
        ([SYSTEM], "ends in a turn of role 'system'"),
        ([USER, "a"], "has str as message 2"),
        ([{"from": "human", "text": "Hi"}], "has a message 1 with from, text, expected role and"),
        ([{"from": "bing", "value": "Hi"}], "has the role 'bing' in message 1, expected one of"),
        ([USER | {"tool_calls": [1]}], "has tool_calls in message 1: only text is read"),
        ([USER, BOT | {"reasoning_content": "Hm"}, USER], "has reasoning_content in message 2: "),
        (
            [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}, USER],
            "has tool_calls in message 2: only text is read",
        ),
        ([{"role": ["user"], "content": "a"}], r"has the role \['user'\] in message 1, expected"),
        ([USER | {"content": None}], "has a message 1 with role, expected role and content"),
        ([USER | {"content": 3}], "has the number 3 as content of message 1, expected text"),
        ([USER | {"content": " "}], r"has no text in message 1 \(role 'user'\)"),
        ([USER | {"content": []}], r"has no text in message 1"),
        (
            [USER | {"content": [{"type": "image_url", "image_url": "a.png"}]}],
            "has a part of type 'image_url' in message 1: only text is read",
        ),
        ([USER | {"content": ["a"]}], "has str in message 1: only text is read"),
        ("[{'role': 'user', 'content': 'Hi'}]", "is a conversation written out as text"),
        (' [{"content": "Hi", "role": "user"}]', "is a conversation written out as text"),
    ],
)
def test_another_post_is_one_line(write_rows: Write, post: Any, message: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^prompts: .*a\.jsonl:2: the post \(column 'post'\) {message}"
    ) as caught:
        only_post(write_rows, "a", post, template="{post}" if isinstance(post, str) else None)
    assert "\n" not in str(caught.value)


def test_posts_that_are_empty_are_counted(write_rows: Write) -> None:
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: the post \(column 'post'\) is empty$"):
        only_post(write_rows, " \n\t", "a")
    with pytest.raises(
        ConfigError,
        match=r"a\.jsonl:2: .* is null, and 2 more rows have nothing to ask$",
    ):
        only_post(write_rows, "a", None, "", "b", " ")


def test_a_prompt_that_the_template_leaves_empty_is_an_empty_one(write_rows: Write) -> None:
    path = write_rows("a.jsonl", [{"post": "a", "title": "t"}, {"post": "b", "title": None}])
    options: dict[str, Any] = {"columns": {"reference": None}}
    for template in ("[[{title}]]", "{% if title %}{{ title }}{% endif %}"):
        with pytest.raises(ConfigError, match=r"a\.jsonl:2: the template 'inline' makes no text"):
            load_prompts(str(path), template=template, **options)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("A summary. ", "A summary. "),
        ("", None),
        (" \n", None),
        (None, None),
        ([BOT], "Ho"),
        ([USER | {"content": "post"}, BOT], "Ho"),
        ([BOT | {"content": ""}], None),
    ],
)
def test_references(write_rows: Write, reference: Any, expected: str | None) -> None:
    path = write_rows("a.jsonl", [{"post": "post", "summary": reference}])
    assert load_prompts(str(path))[0].reference == expected


def test_a_reference_may_be_missing_where_other_rows_have_one(write_rows: Write) -> None:
    path = write_rows("a.jsonl", [{"post": "a"}, {"post": "b", "summary": "s"}])
    assert [p.reference for p in load_prompts(str(path))] == [None, "s"]
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: there is no column 'summary'"):
        load_prompts(str(path), limit=1)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (3, "is the number 3, expected text"),
        (float("nan"), "is the number nan, expected text"),
        (["a"], "is a list, expected text"),
        ([USER, BOT], "has messages of the roles user, assistant: expected text, or one message"),
    ],
)
def test_another_reference_is_one_line(write_rows: Write, reference: Any, message: str) -> None:
    path = write_rows("a.jsonl", [{"post": "post", "summary": reference}])
    with pytest.raises(
        ConfigError, match=rf"a\.jsonl:1: the reference \(column 'summary'\) {message}"
    ):
        load_prompts(str(path))


@pytest.mark.parametrize("column", ["id", "post", "summary", "title", "tags"])
def test_half_a_character_is_refused_in_every_column(write_rows: Write, column: str) -> None:
    row: dict[str, Any] = {"id": "1", "post": "a", "summary": "s", "title": "t", "tags": ["x"]}
    bad = "a\ud83d"
    path = write_rows("a.jsonl", [row, row | {"id": 2, column: [bad] if column == "tags" else bad}])
    with pytest.raises(
        ConfigError, match=rf"a\.jsonl:2: the column '{column}' has half of a character \(.ud83d"
    ) as caught:
        load_prompts(str(path))
    str(caught.value).encode()


def test_half_a_character_in_a_conversation(write_rows: Write) -> None:
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: the column 'post' has half of a char"):
        only_post(write_rows, [USER | {"content": "\ude00"}])
    (whole,) = only_post(write_rows, [USER | {"content": "\ud83d\ude00"}])
    assert whole.text == "\U0001f600"


def test_numbers_and_lists_beside_the_prompt_are_text(write_rows: Write) -> None:
    rows = [{"post": "a", "n": 3, "share": 0.5, "tags": ["x", 1], "nan": float("nan")}]
    path = write_rows("a.jsonl", rows)
    options: dict[str, Any] = {"columns": {"reference": None}}
    for template in ("{n} {share} {tags}", "{{ n }} {{ share }} {{ tags }}"):
        assert load_prompts(str(path), template=template, **options)[0].text == '3 0.5 ["x", 1]'
    with pytest.raises(
        ConfigError, match=r"a\.jsonl:1: the column 'nan', which the template uses, is the number"
    ):
        load_prompts(str(path), template="{post} {nan}", **options)


@pytest.mark.parametrize(
    ("given", "message"), [([1], "is a list"), (float("nan"), "is the number nan"), (True, "truth")]
)
def test_an_id_is_text_or_a_number(write_rows: Write, given: Any, message: str) -> None:
    path = write_rows("a.jsonl", [{"id": given, "post": "a", "summary": "s"}])
    with pytest.raises(ConfigError, match=rf"a\.jsonl:1: the id \(column 'id'\) .*{message}"):
        load_prompts(str(path))
