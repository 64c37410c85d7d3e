"""Markdown as a tree of elements: whoever shows it never reads HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

# A text, or an element: its name, its link if it is one, and what is in it.
Node = str | dict[str, Any]

_NAMES = {
    "paragraph": "p",
    "bullet_list": "ul",
    "ordered_list": "ol",
    "list_item": "li",
    "blockquote": "blockquote",
    "strong": "strong",
    "em": "em",
    "s": "s",
    "link": "a",
    "table": "table",
    "thead": "thead",
    "tbody": "tbody",
    "tr": "tr",
    "th": "th",
    "td": "td",
    "hr": "hr",
}
_LINKS = ("https://", "http://", "mailto:")


# Texts with more characters are not read: it would take seconds.
MAX_CHARACTERS = 50_000


def markdown_tree(text: str, *, links: bool) -> list[Node]:
    """Reads Markdown.

    Headings begin at the third level: the page has two of its own. HTML stays text, and pictures
    are their descriptions.

    Args:
        text: Markdown.
        links: Whether links to the web are links; others are their texts.
    """
    if len(text) > MAX_CHARACTERS:
        return [{"name": "p", "children": [text]}]
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return _nodes(SyntaxTreeNode(reader.parse(text)).children, links)


def _nodes(found: Sequence[SyntaxTreeNode], links: bool) -> list[Node]:
    return [made for node in found for made in _node(node, links)]


def _node(node: SyntaxTreeNode, links: bool) -> list[Node]:
    children = _nodes(node.children, links)
    if node.type == "heading":
        return [{"name": f"h{min(6, int(node.tag[1]) + 2)}", "children": children}]
    if node.type in ("fence", "code_block"):
        return [{"name": "pre", "children": [node.content]}]
    if node.type == "code_inline":
        return [{"name": "code", "children": [node.content]}]
    if node.type in ("text", "image"):
        return [node.content]
    if node.type in ("softbreak", "hardbreak"):
        return ["\n"]
    name = _NAMES.get(node.type)
    if name is None:  # such as `inline`
        return children
    if name == "a":
        target = str(node.attrs.get("href", ""))
        if not links or not target.startswith(_LINKS):
            return children
        return [{"name": name, "href": target, "children": children}]
    return [{"name": name, "children": children}]
