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
        ("{{{{post}}}}", "'inline' has no {field}: every prompt would be equal"),
        ("a { b } \ud83d", r"'inline' has half of a character \(.ud83d, .* at place 8$"),
        ("{% if title %}{{ post }}", r"as Jinja2: template: 'inline', line 1: .*endif"),
        ("a\n{{ post", r"as Jinja2: template: 'inline', line 2: "),
        ("{{ post|nofilter }}", r"line 1: No filter named 'nofilter'"),
        ("{{ 1 }}{% if true %}{% endif %}", r"fields are plain column names"),
        ("{{ post }} {title}", r"has fields as in Jinja2 and '{title}', which is one of the short"),
        ("{% if title %}{title}{% endif %}{{ post }}", r"in Jinja2 and '{title}'"),
        ("[[{{ title }}]] {{ post }}", r"in Jinja2 and '\[\[{{ title }}\]\]'"),
    ],
)
def test_bad_templates(template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^template: .*{message}") as caught:
        resolve_template(template)
    assert "\n" not in str(caught.value)


# -- Jinja2 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "fields", "expected"),
    [
        ("{{ post }}", {"post": "{{ x }} {y} <b>"}, "{{ x }} {y} <b>"),
        ("{{post}}", {"post": "P"}, "P"),
        ("{{ post|upper }}\n", {"post": "p"}, "P\n"),
        ("{% if title %}\nT: {{ title }}\n{% endif %}\n{{ post }}", {"post": "P"}, "P"),
        ("{% if title %}\nT: {{ title }}\n{% endif %}\nP", {"title": "t"}, "T: t\nP"),
        ("{{ title or 'none' }}", {}, "none"),
        ('{"a": 1} {{ post }}', {"post": "P"}, '{"a": 1} P'),
        # As before there was Jinja2 here: what is no Jinja2, or has no field in it.
        ('{{"summary": 1}} {post}', {"post": "P"}, '{"summary": 1} P'),
        ("{{summary: text}} {post}", {"post": "P"}, "{summary: text} P"),
        ("{{1}} {post}", {"post": "P"}, "{1} P"),
    ],
)
def test_jinja(template: str, fields: dict[str, str], expected: str) -> None:
    found = resolve_template(template)
    assert found.is_jinja == (" {post}" not in template)
    assert found.render(fields, columns=["title", "post"]) == expected


def test_a_file_says_by_its_name_that_it_is_jinja(tmp_path: Path) -> None:
    text = "Fill {title} for [[ {{ post }} ]]\n\n"
    for name in ("a.jinja", "a.j2"):
        (tmp_path / name).write_text(text)
        assert render(str(tmp_path / name), post="P") == "Fill {title} for [[ P ]]\n"
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.txt' has fields as in Jinja2 and '{title}'"):
        resolve_template(str(tmp_path / "a.txt"))
    (tmp_path / "b.txt").write_text("{{ post }}")
    assert render(str(tmp_path / "b.txt"), post="P") == "P"
    (tmp_path / "c.jinja").write_text("{post}")
    with pytest.raises(ConfigError, match=r"c\.jinja' has no {field}"):
        resolve_template(str(tmp_path / "c.jinja"))
    (tmp_path / "d.jinja").write_text("a\n\n{% if post %}")
    with pytest.raises(ConfigError, match=r"^template: '.*d\.jinja', line 3: ") as caught:
        resolve_template(str(tmp_path / "d.jinja"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ pst }}", r"'inline' uses the field 'pst', a:3 has post \(did you mean 'post'"),
        ("{% if titel %}{% endif %}{{ post }}", "uses the field 'titel'"),
        ("{{ title }}", "uses the field 'title', a:3 has post"),
        ("{{ post + 1 }}", "'inline', at a:3: can only concatenate str"),
        ("{{ post.__class__.__mro__ }}", "'inline', at a:3: access to attribute '__class__'"),
        ("{% include post %}", "'inline', at a:3: no loader"),
    ],
)
def test_what_jinja_cannot_fill_in_is_one_line(template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^template: .*{message}") as caught:
        resolve_template(template).render({"post": "P"}, place="a:3", columns=["title", "post"])
    assert "\n" not in str(caught.value)


def test_templates_of_other_encodings(tmp_path: Path) -> None:
    for name in ("a.txt", "a.jinja"):
        (tmp_path / name).write_bytes("\ufeff{{ post }}\r\n".encode())
        assert render(str(tmp_path / name), post="P") == "P"
        (tmp_path / name).write_bytes("{{ post }}".encode("utf-16"))
        with pytest.raises(ConfigError, match=r"^template: cannot read .* is in UTF-16, expected"):
            resolve_template(str(tmp_path / name))
        (tmp_path / name).write_bytes(b"{{ post }} \xff")
        with pytest.raises(ConfigError, match=r"^template: cannot read .*/a\..*'utf-8' codec"):
            resolve_template(str(tmp_path / name))
