"""Whether the policy may learn from the ERM: the window, what is told, and the plan."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rllib_sea.duels.audit import Audit, foreseen
from rllib_sea.duels.plan import Counts, RoundPlan, plan_round
from rllib_sea.settings.duels import Duels
from tests.helpers.round_cases import proposal, selected
from text_duel.verdicts import Label


def audit(told: list[str] | None = None, **keys: Any) -> Audit:
    told = [] if told is None else told
    return Audit(Duels(**keys), note=told.append, warn=lambda line: told.append(f"! {line}"))


def outcomes(num_right: int, num_wrong: int) -> np.ndarray:
    return np.array([True] * num_right + [False] * num_wrong)


def test_what_was_foreseen_by_hand() -> None:
    """Mean margins 1, -1 and 0: right, wrong, and nothing foreseen."""
    rewards = np.array([[[3.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [2.0, 0.0]], [[1.0, 0], [0.0, 1]]])
    assert foreseen(rewards, np.array([True, True, True])).tolist() == [True, False, False]
    assert foreseen(rewards, np.array([False, False, False])).tolist() == [False, True, False]


def test_the_bound_by_hand() -> None:
    """Wilson for 8 of 10: (0.8 + z^2/20 - z sqrt(0.016 + z^2/400)) / (1 + z^2/10), z^2 = 3.8415."""
    watch = audit(audit_threshold=0.49)
    assert watch.low == 0
    assert not watch.trusted
    metrics = watch.test(outcomes(8, 2), 10)
    z = math.sqrt(3.8414588)
    low = (0.8 + z**2 / 20 - z * math.sqrt(0.016 + z**2 / 400)) / (1 + z**2 / 10)
    assert metrics == {
        "audit_accuracy": 0.8,
        "audit_bound": pytest.approx(low),
        "audit_labels": 10.0,
    }
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert watch.trusted
    assert not audit(audit_threshold=0.4903).trusted


def test_the_window_forgets_and_what_turns_is_told_once_each_way() -> None:
    told: list[str] = []
    watch = audit(told, audit_threshold=0.6, audit_window=50)
    watch.test(outcomes(20, 0), 20)
    assert watch.trusted  # at least 0.84
    assert len(told) == 1
    assert told[0].startswith("after 20 labels the policy learns from the ERM: it was right about")
    assert "audit_threshold 0.6" in told[0]
    watch.test(outcomes(20, 30), 70)  # the first 20 are forgotten
    assert not watch.trusted
    assert watch.test(np.empty(0, dtype=bool), 70)["audit_accuracy"] == 0.4
    assert told[1].startswith("! after 70 labels the policy no longer learns from the ERM")
    for right, wrong in ((50, 0), (0, 50), (50, 0)):  # back and forth: no more lines
        watch.test(outcomes(right, wrong), 100)
    assert watch.trusted
    assert len(told) == 2


def test_a_higher_threshold_trusts_no_sooner() -> None:
    rng = np.random.default_rng(0)
    watches = [audit(audit_threshold=t, audit_window=64) for t in (0.5, 0.6, 0.7)]
    trusted = []
    for step in range(60):
        right = rng.random(16) < 0.4 + 0.01 * step
        for watch in watches:
            watch.test(right, 0)
        trusted.append([watch.trusted for watch in watches])
    for low, middle, high in trusted:
        assert low >= middle >= high
    assert not any(trusted[0])
    assert all(trusted[-1])


def test_without_a_threshold_nothing_is_asked() -> None:
    watch = audit()
    assert watch.trusted
    assert watch.test(outcomes(0, 100), 100) == {}
    assert watch.trusted


def duels() -> list[Any]:
    """The member prefers the first: right about a strategy's, wrong about an audited pair."""
    case = proposal(("a", "b"), [[1.0, 0.0]])
    return [
        selected(case).labelled(0, Label(1.0)),
        selected(case, audited=True).labelled(0, Label(0.0)),
        selected(case).labelled(0, Label(0.5)),
        selected(case, synthetic=True, own_preference=0.0).labelled(0),
    ]


def test_ties_and_own_labels_are_no_tests_and_audited_pairs_go_alone() -> None:
    every = audit(audit_threshold=0.5).test_duels(duels(), 2)
    assert (every["audit_labels"], every["audit_accuracy"]) == (2, 0.5)
    own = audit(audit_threshold=0.5, audit_share=0.1).test_duels(duels(), 2)
    assert (own["audit_labels"], own["audit_accuracy"]) == (1, 0.0)
    assert audit(audit_threshold=0.5, audit_share=0.1).test_duels(duels()[:1], 1) == {}


def test_a_resumed_audit_goes_on() -> None:
    told: list[str] = []
    first = audit(told, audit_threshold=0.6)
    first.test(outcomes(30, 5), 35)
    second = audit(told, audit_threshold=0.6)
    second.set_state(first.get_state())
    assert second.low == first.low > 0.6
    second.test(outcomes(40, 0), 75)
    assert len(told) == 1


# -- The plan -------------------------------------------------------------------------


def plan(**changes: Any) -> RoundPlan:
    arguments: dict[str, Any] = {
        "num_prompts": 500,
        "prompts_per_round": 400,
        "prompt_pool_size": None,
        "query_budget": None,
        "gamma": 0.5,
        "trusted": True,
        "audit_share": 0.0,
        "seed": 3,
    }
    return plan_round(Counts(round=2), **(arguments | changes))


def test_while_the_erm_is_not_trusted_all_is_asked() -> None:
    trusted, not_trusted = plan(), plan(trusted=False)
    assert trusted.gamma == 0.5
    assert 150 < sum(trusted.synthetic) < 250
    assert not_trusted.gamma == 1.0
    assert not any(not_trusted.synthetic)
    assert not_trusted.prompts == trusted.prompts


def test_a_share_of_the_questions_is_audited_and_nothing_else_changes() -> None:
    without, some, every = (plan(audit_share=share) for share in (0.0, 0.2, 1.0))
    assert not any(without.audited)
    assert without.synthetic == some.synthetic == every.synthetic
    assert not any(a and s for a, s in zip(some.audited, some.synthetic, strict=True))
    num_real = 400 - sum(some.synthetic)
    assert sum(some.audited) == pytest.approx(0.2 * num_real, abs=25)
    assert sum(every.audited) == num_real
    short = plan(audit_share=1.0, query_budget=10)
    assert len(short.audited) == len(short.synthetic) == short.num_duels
    assert sum(short.audited) == 10
