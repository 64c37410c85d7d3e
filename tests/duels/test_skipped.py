"""What is said of prompts that give no duel, and when a run ends for it."""

from __future__ import annotations

import pytest

from rllib_sea.duels.selection import INCOMPLETE, NON_FINITE, ONE_TEXT
from rllib_sea.duels.skipped import MAX_ROUNDS_WITHOUT_DUELS, SkippedPrompts


def test_a_fault_is_told_once_and_one_text_is_not_one():
    said: list[str] = []
    watch = SkippedPrompts(said.append)
    round_ = {INCOMPLETE: ["a", "b"], NON_FINITE: [], ONE_TEXT: ["c"]}
    assert watch.check(True, round_) == watch.check(True, round_) == 3
    assert len(said) == 1
    assert "a prompt without a duel, 'a': fewer than num_candidates" in said[0]


def test_ten_rounds_in_a_row_end_a_run_and_say_what_to_try():
    watch = SkippedPrompts(lambda _: None)
    collapsed = {INCOMPLETE: [], NON_FINITE: [], ONE_TEXT: ["a", "b"]}
    for has_duels in [False] * (MAX_ROUNDS_WITHOUT_DUELS - 1) + [True]:
        watch.check(has_duels, collapsed)  # one round with a duel, and the count begins anew
    for _ in range(MAX_ROUNDS_WITHOUT_DUELS - 1):
        watch.check(False, collapsed)
    expected = r"10 rounds .*are the same text: 2\)\. A policy .*smaller policy_lr"
    with pytest.raises(RuntimeError, match=expected):
        watch.check(False, collapsed)


def test_what_has_another_reason_is_not_called_a_collapse():
    watch = SkippedPrompts(lambda _: None)
    silent = {INCOMPLETE: ["a"], NON_FINITE: [], ONE_TEXT: []}
    for _ in range(MAX_ROUNDS_WITHOUT_DUELS - 1):
        watch.check(False, silent)
    with pytest.raises(RuntimeError, match=r"without tokens: 1\)$"):
        watch.check(False, silent)
