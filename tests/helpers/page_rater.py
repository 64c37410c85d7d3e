"""Somebody who labels on the page, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from rllib_sea.preference_log.records import LogEntry

CHROMIUM = shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"
)
DESK = {"width": 1280, "height": 800}


class PageRater:
    """Somebody at a page, who remembers what they said."""

    def __init__(self, browser: Browser, link: str, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": DESK} | options))
        self.link = link
        self.said: dict[str, tuple[str, str]] = {}
        self.page = self.window()

    def window(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(20_000)
        page.goto(self.link)
        expect(page.locator("#question")).to_be_visible(timeout=20_000)
        return page

    def prompt(self, page: Page | None = None) -> str:
        return (page or self.page).locator("#prompt").inner_text()

    def press(self, key: str, page: Page | None = None) -> str:
        """Answers with a key; returns the prompt."""
        return self._answer(page or self.page, key, lambda at: at.keyboard.press(key))

    def click(self, name: str, key: str) -> str:
        """The same with a button."""
        return self._answer(
            self.page, key, lambda at: at.get_by_role("button", name=name).first.click()
        )

    def skip(self, reason: str) -> None:
        """Skips with a reason in words of one's own."""
        expect(self.page.locator("#question")).to_be_visible()
        prompt = self.prompt()
        self.said[prompt] = "s", self.page.locator("#left").inner_text()
        self.page.keyboard.press("s")
        self.page.get_by_label("Something else").fill(reason)
        self.page.get_by_role("button", name="Skip", exact=True).last.click()
        expect(self.page.locator("#prompt")).not_to_have_text(prompt)

    def _answer(self, page: Page, key: str, act: Callable[[Page], None]) -> str:
        expect(page.locator("#question")).to_be_visible()
        prompt = self.prompt(page)
        left = page.locator("#left").inner_text()
        act(page)
        self.said[prompt] = key, left
        page.wait_for_function(
            "text => document.getElementById('question').hidden"
            " || document.getElementById('prompt').innerText !== text",
            arg=prompt,
        )
        return prompt

    def check(self, entry: LogEntry) -> str:
        """Compares what the log has with what was said."""
        (given,) = entry.verdicts
        verdict = given.verdict
        key, left = self.said[entry.question.prompt_text]
        on_left = "first" if entry.question.first.text == left else "second"
        right = "second" if on_left == "first" else "first"
        choices = {"1": on_left, "2": right, "0": "tie", "b": "both_bad", "s": "skip"}
        assert (verdict.choice, verdict.shown_first) == (choices[key], on_left)
        assert verdict.seconds is not None
        return verdict.choice
