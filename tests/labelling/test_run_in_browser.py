"""A whole run of a tiny model that two people label in a real browser, killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, expect

from rllib_sea.preference_log.log import LOG_FILE, PreferenceReader
from rllib_sea.preference_log.records import LogEntry
from tests.helpers.killed_runs import TrainCommand, write_recipe
from tests.helpers.page_rater import NEEDS_CHROMIUM, PageRater
from tests.helpers.sea_runs import IN_PROCESS

pytestmark = NEEDS_CHROMIUM
BUDGET = 16


def saved(*raters: PageRater) -> None:
    for rater in raters:
        expect(rater.page.locator("#connection")).to_have_text("all saved", timeout=30_000)


def num_said(*raters: PageRater) -> int:
    return sum(len(rater.said) for rater in raters)


def answer_all(command: TrainCommand, num_answers: int, *raters: PageRater) -> None:
    """All answer what comes, in turn, until there are so many answers."""
    for _ in range(2000):
        for rater in raters:
            if num_said(*raters) == num_answers:
                saved(*raters)
                return
            if rater.page.locator("#question").is_visible():
                rater.press("1")
        raters[0].page.wait_for_timeout(100)
    raise TimeoutError(f"{num_said(*raters)} answers, not {num_answers}:\n{command.output}")


def test_two_raters_label_a_run_in_their_browsers(
    browser: Browser, tiny_policy: Path, tmp_path: Path
) -> None:
    """They click, type, take back, skip, reload, have two tabs and no network.

    The run is killed twice: while one of them has no network, and in its second round.
    """
    people = {"raters": ["ann", "bob"], "undo_s": 2.0}
    changes = {"query_budget": BUDGET, "ask_ahead": True} | IN_PROCESS
    write_recipe(tmp_path, tiny_policy, "people", people, **changes)
    with TrainCommand(tmp_path) as command:
        links = command.links("ann", "bob")
        ann, bob = (PageRater(browser, links[name]) for name in ("ann", "bob"))
        ann.press("1")
        bob.click("B is better", "2")
        # Taken back, and said otherwise.
        taken_back = ann.press("1")
        ann.page.keyboard.press("u")
        expect(ann.page.locator("#prompt")).to_have_text(taken_back)
        ann.press("2")
        bob.skip("two languages")
        # Another tab: what is answered there is gone from the first.
        before, tab = bob.prompt(), bob.window()
        assert bob.prompt(tab) == before
        bob.press("0", tab)
        expect(bob.page.locator("#prompt")).not_to_have_text(before)
        tab.close()
        saved(ann, bob)
        # No network; meanwhile the run dies.
        ann.context.set_offline(True)
        ann.press("1")
        expect(ann.page.locator("#connection")).to_contain_text("kept here")
        command.kill()
        bob.press("2")
    ann.context.set_offline(False)
    with TrainCommand(tmp_path, ["--resume"]) as command:
        assert command.links("ann", "bob") == links
        ann.page.reload()  # with an answer that nobody has heard of
        saved(ann, bob)
        answer_all(command, BUDGET - 3, ann, bob)
        command.kill()
    with TrainCommand(tmp_path, ["--resume"]) as command:
        assert command.links("ann", "bob") == links
        answer_all(command, BUDGET, ann, bob)
        assert command.wait(120.0) == 0, command.output

    (log,) = tmp_path.glob(f"tiny/*/{LOG_FILE}")
    with PreferenceReader(log) as reader:
        entries = list(reader.read())
    check_answers({"ann": ann, "bob": bob}, entries)
    assert len(entries) == BUDGET
    skipped = [entry for entry in entries if entry.label is None]
    assert [entry.verdicts[0].verdict.reason for entry in skipped] == ["two languages"]
    assert all(entry.learned_in is not None for entry in entries if entry.label is not None)
    last = json.loads((log.parent / "result.json").read_text().splitlines()[-1])
    assert last["num_oracle_queries"] == BUDGET


def check_answers(raters: dict[str, PageRater], entries: list[LogEntry]) -> None:
    """Each question was shown to one of them, who answered it once; the log has what they said."""
    assert [len(entry.verdicts) for entry in entries] == [1] * len(entries)
    for entry in entries:
        raters[entry.verdicts[0].rater].check(entry)
    assert num_said(*raters.values()) == len(entries)
