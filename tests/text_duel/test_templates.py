"""Prompt templates: fields, optional parts, literal braces, and what cannot be read."""

from pathlib import Path

import pytest

from text_duel import ConfigError
from text_duel.templates import Template, resolve_template, template_names


def render(template: str, **fields: str) -> str:
    return resolve_template(template).render(fields)


def test_shipped_templates() -> None:
    assert template_names() == ["tldr", "tldr_plain"]
    assert render("tldr", post="P.") == (
        "Summarise the following post in one short sentence.\n\nP."
    )
    assert render("tldr_plain", post="P.") == "POST: P.\n\nTL;DR:"
    assert render("tldr_plain", post="P.", title="T", subreddit="s") == (
        "SUBREDDIT: r/s\n\nTITLE: T\n\nPOST: P.\n\nTL;DR:"
    )


@pytest.mark.parametrize(
    ("template", "fields", "expected"),
    [
        ("{a}{b}{a}", {"a": "1", "b": "2"}, "121"),
        ("{{{a}}} {{}}", {"a": "1"}, "{1} {}"),
        ("[[x {b} ]]{a}", {"a": "1"}, "1"),
        ("[[x {b} ]]{a}", {"a": "1", "b": "2"}, "x 2 1"),
        ("[[{b}\n{c}\n]]{a}", {"a": "1", "b": "2"}, "1"),
        ("[[kept ]]{a}", {"a": "1"}, "kept 1"),
        ("[one] {a}", {"a": "1"}, "[one] 1"),
        ("{a}", {"a": "{b} [[x]] {{"}, "{b} [[x]] {{"),
        ("[[{a}]]", {"a": "]] {b}"}, "]] {b}"),
    ],
)
def test_rendering(template: str, fields: dict[str, str], expected: str) -> None:
    assert render(template, **fields) == expected


def test_a_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Ü: {post}\n\n", encoding="utf-8")
    assert resolve_template(str(path)) == Template(str(path), "Ü: {post}\n")


def test_a_missing_field_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        render("{titel}: {post}", post="P", title="T")
    assert str(caught.value) == (
        "template: 'inline' uses the field 'titel', the source has post, title "
        "(did you mean 'title'?)"
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("tldr_plane", r"'tldr_plane' is none of tldr, .*\(did you mean 'tldr_plain'\?\)$"),
        ("no/such/file.txt", r"no file at /.*no/such/file\.txt$"),
        ("{post", "'inline' cannot be read: expected '}'"),
        ("{post}}", "'inline' cannot be read: Single '}'"),
        ("{} {post}", "has the field {}; fields are plain column names"),
        ("{post!r:>9}", "has the field {post!r:>9}; fields are plain column names"),
        ("{{post}}", "'inline' has no {field}: every prompt would be equal"),
    ],
)
def test_bad_templates(template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^template: .*{message}"):
        resolve_template(template)
