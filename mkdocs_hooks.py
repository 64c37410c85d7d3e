"""What the site needs beside mkdocs.yml: pages that lie outside docs/, links in docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
# Files beside docs/ that are pages of the site, where they are read on a code host, too.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages from outside docs/; their links lose that folder."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, target in PAGES.items():
            text = text.replace(f"]({other}", f"]({target}")
        files.append(File.generated(config, page, content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links from docs/ to such a file to its page."""
    up = "../" * page.file.src_uri.count("/")
    for name, target in PAGES.items():
        markdown = markdown.replace(f"]({up}../{name}", f"]({up}{target}")
    return markdown


class Roles(griffe.Extension):
    """Sphinx's marks in docstrings, read: a role (:class:`Page`) is a link if there is a page."""

    _ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`([^`]+)`")

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Goes through a package that has been read."""
        self._mend(pkg)

    def _mend(self, thing: griffe.Object) -> None:
        if thing.docstring is not None:
            text = re.sub("::$", ":", thing.docstring.value, flags=re.MULTILINE)  # before code
            thing.docstring.value = self._ROLE.sub(lambda role: self._link(thing, role[1]), text)
        for member in thing.members.values():
            if not member.is_alias:
                self._mend(member)

    def _link(self, thing: griffe.Object, name: str) -> str:
        try:
            first, _, rest = name.partition(".")
            target = ".".join(filter(None, (thing.resolve(first), rest)))
        except griffe.NameResolutionError:
            target = name
        return f'<autoref identifier="{target}" optional><code>{name}</code></autoref>'
