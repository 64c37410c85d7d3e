"""The site of docs/, as `make docs` builds it: no warning, no other host, no name forgotten."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
# Attributes by which a page has a browser fetch something, and the tags that they stand in.
FETCHED = {"src", "srcset", "data", "poster"}
FETCHING_LINKS = {"stylesheet", "preload", "preconnect", "dns-prefetch", "icon", "modulepreload"}


class Page(HTMLParser):
    """What a page has: ids, and what it makes a browser fetch."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids.add(values.get("id", ""))
        self.fetched += [values[name] for name in FETCHED & values.keys()]
        if tag == "link" and FETCHING_LINKS & set(values.get("rel", "").split()):
            self.fetched.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: what is not said is not counted by --strict.
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> Iterable[Path]:
    return (file for file in site.rglob("*.html"))


def public_names(package: Path) -> list[str]:
    """What `__all__` of a package says, without importing it."""
    for statement in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return [f"{package.name}.{name}" for name in ast.literal_eval(statement.value)]
    raise AssertionError(f"{package} has no __all__")


def test_no_page_asks_another_host(site: Path) -> None:
    found = {
        (str(file.relative_to(site)), url)
        for file in pages(site)
        for url in Page(file).fetched
        if re.match(r"(https?:)?//", url)
    }
    styles = {
        (str(file.relative_to(site)), url)
        for file in site.rglob("*.css")
        for url in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", file.read_text())
    }
    assert (found, styles) == (set(), set())


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    ids = set().union(*(Page(file).ids for file in (site / "api").glob("*.html")))
    names = {*public_names(ROOT / "envs/text_duel"), *public_names(ROOT / "rllib_sea")}
    assert names - ids == {"rllib_sea.text_duel"}  # a package, which has a page of its own


def test_no_mark_of_a_docstring_is_left(site: Path) -> None:
    """Sphinx's roles, which Markdown does not know, and the links that they become."""
    for file in (site / "api").glob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert re.findall(r":(?:attr|class|data|func|meth|mod):.{40}|&lt;autoref.{60}", text) == []


def test_a_page_from_the_disk_is_searched_without_a_network(site: Path) -> None:
    """The theme's worker runs in docs/javascripts/iframe-worker.js there."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium to look at the site with: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((site / "api" / "sea.html").as_uri())
        # The theme looks at keys that are released, not at what stands in the field.
        page.locator("input.md-search__input").press_sequentially("rao kupper")
        page.wait_for_selector("article.md-search-result__article")
        links = [link.get_attribute("href") for link in page.query_selector_all("a[href]")]
        browser.close()
    assert any("losses.html#labels-in-doubt-weights-ties" in str(link) for link in links)
    assert ([url for url in asked if not url.startswith("file://")], wrong) == ([], [])
