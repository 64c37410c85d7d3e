"""What every page must be: well-formed, whole by itself, readable by those who do not see it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """A page, taken apart.

    Attributes:
        text: All of it but the style sheet.
        tags: How often each tag stands there.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: dict[str, int] = {}
        self._open: list[str] = []
        self._ids: list[str] = []
        self._references: set[str] = set()
        self.feed(html)
        self.close()
        assert self._open == []
        assert len(self._ids) == len(set(self._ids))
        assert self._references <= set(self._ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "
        values = dict(attrs)
        assert len(values) == len(attrs), (tag, attrs)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in VOID:
            self._open.append(tag)
        assert not {"src", "srcset", "data", "action"} & values.keys()
        assert not [name for name in values if name.startswith("on")]
        assert (values.get("href") or "#").startswith("#")
        if "id" in values:
            self._ids.append(values["id"] or "")
        for name in ("aria-labelledby", "href"):
            self._references |= {one.strip("#") for one in (values.get(name) or "").split()}
        if tag == "svg":
            assert values.get("aria-hidden") == "true" or values["role"] == "img"
        if tag == "th":
            assert values["scope"] in ("col", "row")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()
        self.text += " "

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
        else:
            self.text += data


def page_of(html: str) -> Page:
    """Takes a page apart, and checks it."""
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "img"} & page.tags.keys()
    assert page.tags["h1"] == 1
    return page
