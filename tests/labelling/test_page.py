"""The page in a real browser: keys, clicks, two windows, no network, a server that is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog, PreferenceReader
from rllib_sea.preference_log.records import Question
from tests.helpers.page_rater import NEEDS_CHROMIUM, PageRater
from tests.helpers.preference_log_cases import RUN, question, response
from tests.helpers.served_log import ServedLog

pytestmark = NEEDS_CHROMIUM
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}
# Until it is loaded again.
SLOW_ANSWERS = """() => {
    const now = fetch;
    const wait = () => new Promise((done) => setTimeout(done, 400));
    const slowly = (...what) => wait().then(() => now(...what));
    window.fetch = (...what) => (what[0].includes("answer") ? slowly : now)(...what);
}"""
# The browser of a test has all of its tabs in sight.
OUT_OF_SIGHT = """(whether) => {
    Object.defineProperty(document, "hidden", { value: whether, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
ATTACK = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


Serve = Callable[..., ServedLog]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves a log of questions to raters."""
    started: list[ServedLog] = []

    def start(questions: list[Question], *raters: str) -> ServedLog:
        with PreferenceLog(tmp_path / LOG_FILE, RUN) as log:
            log.ask(0, questions)
        started.append(ServedLog(tmp_path / LOG_FILE, *raters))
        return started[0]

    yield start
    for served in started:
        served.stop()


def questions(number: int) -> list[Question]:
    return [
        question(
            0,
            i,
            prompt_text=f"Summarise post {i}.",
            first=response(f"It is about {i}, and no more."),
            second=response(f"It is about {i}, and much more than that."),
        )
        for i in range(number)
    ]


def test_nothing_is_lost_and_nothing_is_asked_twice(browser: Browser, serve: Serve) -> None:
    """Two raters; one loses the network, opens a second window and reloads; the server dies."""
    served = serve(questions(24), "ann", "bob")
    ann, bob = (PageRater(browser, served.links[name]) for name in ("ann", "bob"))
    assert "#" not in ann.page.url, "the token is gone from the address"
    ann.press("1")
    bob.click("B is better", "2")
    ann.press("0")
    bob.press("b")
    # Undo, and another answer.
    taken_back = ann.press("1")
    expect(ann.page.locator("#connection")).to_have_text("all saved")
    ann.page.keyboard.press("u")
    expect(ann.page.locator("#before")).to_contain_text("You have said: A is better")
    assert ann.prompt() == taken_back
    assert ann.press("2") == taken_back
    # At once, while the answer is on its way: heard or not, it is taken back.
    ann.page.evaluate(SLOW_ANSWERS)
    for milliseconds in (0, 100):
        expect(ann.page.locator("#connection")).to_have_text("all saved")
        hasty = ann.press("1")
        ann.page.wait_for_timeout(milliseconds)
        ann.page.keyboard.press("u")
        expect(ann.page.locator("#prompt")).to_have_text(hasty)
    ann.press("0")
    # Skip, with a reason.
    ann.skip("two languages \N{GRINNING FACE}")
    # Two windows: what is answered in one is gone from the other.
    other = ann.window()
    before = ann.prompt()
    assert ann.prompt(other) == before
    ann.press("1", other)
    expect(ann.page.locator("#prompt")).not_to_have_text(before)
    expect(ann.page.locator("#connection")).to_have_text("all saved")
    ann.page.wait_for_timeout(1500)  # until it has four ahead again
    # Without a network answers are kept; so they are by a reload once it is back.
    ann.context.set_offline(True)
    ann.press("2")
    ann.press("1")
    # One of them is taken back before anybody has heard of it.
    unheard = ann.press("1")
    ann.page.keyboard.press("u")
    expect(ann.page.locator("#prompt")).to_have_text(unheard)
    ann.press("b")
    expect(ann.page.locator("#connection")).to_contain_text("kept here")
    ann.context.set_offline(False)
    ann.page.reload()
    expect(ann.page.locator("#question")).to_be_visible()
    expect(ann.page.locator("#connection")).to_have_text("all saved", timeout=20_000)
    # The server dies with answers under way, and comes back at the same links.
    served.kill()
    bob.press("1")
    ann.press("0")
    served.start()
    bob.press("2")
    for rater in (ann, bob):
        expect(rater.page.locator("#connection")).to_have_text("all saved", timeout=20_000)
    while any(rater.page.locator("#question").is_visible() for rater in (ann, bob)):
        for rater in (ann, bob):
            if rater.page.locator("#question").is_visible():
                rater.press("2")
            rater.page.wait_for_timeout(100)
    expect(ann.page.locator("#waiting-title")).to_have_text("All answered, thank you")
    assert served.stop().endswith("0 open\n")
    with PreferenceReader(served.log) as log:
        entries = list(log.read())
        corrections = next(log.query("SELECT count(*) FROM verdicts WHERE replaces IS NOT NULL"))
    assert [len(entry.verdicts) for entry in entries] == [1] * 24
    raters = {"ann": ann, "bob": bob}
    found = [raters[entry.verdicts[0].rater].check(entry) for entry in entries]
    assert set(found) == {"first", "second", "tie", "both_bad", "skip"}
    assert len(ann.said) + len(bob.said) == 24
    assert 1 <= corrections[0] <= 4
    reasons = [e.verdicts[0].verdict.reason for e in entries if e.verdicts[0].verdict.reason]
    assert reasons == ["two languages \N{GRINNING FACE}"]


def test_tabs_out_of_sight_take_neither_connections_nor_questions(
    browser: Browser, serve: Serve
) -> None:
    """A browser has six connections to a server; the ninth tab answers all the same."""
    rater = PageRater(browser, serve(questions(3), "ann").links["ann"])
    tabs = [rater.page]
    for _ in range(8):
        tabs[-1].evaluate(OUT_OF_SIGHT, True)
        tabs.append(rater.window())
    rater.press("1", tabs[-1])
    tabs[-1].evaluate(OUT_OF_SIGHT, True)
    hidden = tabs[0]
    asked: list[str] = []
    hidden.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    # In another browser, whose answers no tab of this one is told of: a hidden one asks by itself.
    PageRater(browser, rater.link).press("2")
    expect(hidden.locator("#counts")).to_contain_text("2 of 3", timeout=40_000)
    assert set(asked) == {"progress"}, "what it has may be given to others"
    before = rater.prompt()
    hidden.evaluate(OUT_OF_SIGHT, False)
    expect(hidden.locator("#prompt")).not_to_have_text(before)


def test_anybody_can_use_it(browser: Browser, serve: Serve) -> None:
    """No violation of WCAG 2.2 AA that axe knows, in light and dark, at a desk and on a phone."""
    served = serve(questions(8), "ann")
    axe = Axe()
    for scheme in ("light", "dark"):
        for options in ({}, PHONE):
            rater = PageRater(browser, served.links["ann"], color_scheme=scheme, **options)
            page = rater.page
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

            def violations(page: Page = page) -> list[str]:
                page.wait_for_timeout(300)  # colours of what comes into sight
                found = axe.run(page).response["violations"]
                return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found]

            assert violations() == []
            page.keyboard.press("d")
            assert page.locator("mark").all_inner_texts() != []
            assert violations() == []
            for key in ("?", "s"):
                page.keyboard.press(key)
                assert violations() == []
                page.keyboard.press("Escape")
            rater.context.close()
    rater = PageRater(browser, served.links["ann"], **PHONE)
    for _ in range(8):
        assert rater.page.locator("#question").is_visible()
        rater.page.get_by_role("button", name="A better").tap()
        rater.page.wait_for_timeout(200)
    expect(rater.page.locator("#waiting-title")).to_have_text("All answered, thank you")
    assert axe.run(rater.page).response["violations"] == []


def test_texts_of_models_are_texts(browser: Browser, serve: Serve) -> None:
    """HTML, 100 kB, right to left, nothing; a conversation; and a link that is nobody's."""
    messages = (
        {"role": "system", "content": ATTACK},
        {"role": "user", "content": "How much?"},
    )
    long = "word " * 20_000
    cases = [
        question(0, 0, first=response(ATTACK), second=response("\u0645\u0631\u062d\u0628\u0627")),
        question(0, 1, first=response(long), second=response("")),
        question(0, 2, prompt_messages=messages),
    ]
    served = serve(cases, "ann")
    rater = PageRater(browser, served.links["ann"])
    page = rater.page
    shown = page.locator(".response .text")
    assert sorted(shown.all_inner_texts()) == sorted([ATTACK, "\u0645\u0631\u062d\u0628\u0627"])
    assert page.locator(".response img, .response script").count() == 0
    page.keyboard.press("d")
    assert page.locator(".response img, .response script").count() == 0
    page.keyboard.press("1")
    expect(shown.filter(has_text="(empty)")).to_have_count(1)
    assert max(map(len, shown.all_inner_texts())) > 99_000
    assert page.get_by_role("button", name="B is better").is_visible()
    page.keyboard.press("d")
    page.keyboard.press("2")
    expect(page.locator("#prompt h3")).to_have_text(["System", "User"])
    assert page.locator("#prompt").inner_text().startswith(f"System\n{ATTACK}")
    assert "broken" not in page.title()
    stranger = rater.context.browser.new_context().new_page()  # type: ignore[union-attr]
    stranger.goto(served.links["ann"][:-4] + "xxxx")
    expect(stranger.locator("#waiting-title")).to_have_text("This link does not open the page")
    assert stranger.locator("#question").is_hidden()


def test_markdown_of_texts_is_elements_and_never_html(browser: Browser, serve: Serve) -> None:
    """A key shows it, and the browser remembers; differences are of the texts as they are."""
    texts = (f"**Short** {ATTACK}\n\n- `a`\n- [b](https://c.d)", f"Long {ATTACK}")
    cases = [question(0, i, first=response(texts[0]), second=response(texts[1])) for i in range(3)]
    page = PageRater(browser, serve(cases, "ann").links["ann"]).page
    expect(page.locator(".response strong")).to_have_count(0)
    page.keyboard.press("m")
    button = page.get_by_role("button", name="Markdown")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".response strong")).to_have_text("Short")
    expect(page.locator(".response li code")).to_have_text("a")
    expect(page.locator(".response li").last).to_have_text("b")
    expect(page.locator(".response :is(a, img, script)")).to_have_count(0)
    for side in ("#left", "#right"):
        expect(page.locator(side)).to_contain_text(ATTACK)
    assert "broken" not in page.title()
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("d")
    expect(page.locator(".response strong")).to_have_count(0)
    expect(page.locator(".response mark").first).to_be_visible()
    page.keyboard.press("1")
    expect(page.locator(".response strong")).to_have_text("Short")
    page.reload()
    expect(page.locator(".response strong")).to_have_text("Short")
    page.keyboard.press("m")
    expect(page.locator(".response strong")).to_have_count(0)
