"""From proposals to duels: what is left out, what is selected, what becomes of it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_sea.duels.plan import RoundPlan
from rllib_sea.duels.records import Candidate, PreferencePair
from rllib_sea.duels.rounds import Proposal
from rllib_sea.duels.run_files import SAMPLE_DUELS_FILE, append_duels
from rllib_sea.duels.selection import (
    INCOMPLETE,
    NON_FINITE,
    ONE_TEXT,
    SKIP_REASONS,
    SelectedDuel,
    select_duels,
    stack,
    usable_proposals,
)
from rllib_sea.exploration import STRATEGIES
from rllib_sea.exploration.mixing import SYNTHETIC_PAIRS
from rllib_sea.settings.duels import Duels
from tests.helpers.round_cases import proposal, selected
from text_duel.verdicts import Label

ABC = ("a", "bb", "ccc")
NAN, INF = math.nan, math.inf


def select(
    proposals: Sequence[Proposal],
    implicit_rewards: np.ndarray | None = None,
    *,
    synthetic: Mapping[int, bool] | None = None,
    num_duels: int | None = None,
    seed: int = 0,
    round_index: int = 0,
    **keys: Any,
) -> tuple[list[SelectedDuel], list[str]]:
    """The duels of a round of ``passive``, all of them real, and the prompts of one text."""
    by_position = [bool(synthetic and synthetic.get(i)) for i in range(20)]
    duels, skipped = select_duels(
        proposals,
        implicit_rewards,
        keys=Duels(**{"exploration_strategy": "passive", "synthetic_pair": "selected_pair"} | keys),
        plan=RoundPlan(
            gamma=0.5,
            num_duels=len(proposals) if num_duels is None else num_duels,
            prompts=tuple(range(20)),
            synthetic=tuple(by_position),
            audited=(False,) * 20,
        ),
        seed=seed,
        round_index=round_index,
    )
    assert set(skipped) == {ONE_TEXT}  # nothing is dropped by default
    return duels, skipped[ONE_TEXT]


# -- What is left out -----------------------------------------------------------------


def test_prompts_without_all_candidates_or_finite_rewards_are_left_out_by_the_reason() -> None:
    whole = proposal(ABC, [[1, 2, 3], [3, 2, 1]], position=0)
    short = proposal(ABC[:2], [[1, 2], [2, 1]], position=1)
    silent = proposal(("a", "", "ccc"), [[1, 2, 3], [3, 2, 1]], position=2)
    undefined = proposal(ABC, [[1, 2, 3], [3, NAN, 1]], position=3)
    infinite = proposal(ABC, [[1, 2, -INF], [3, 2, 1]], position=4)
    # It has both faults and is counted once.
    both = proposal(ABC[:2], [[1, NAN], [2, 1]], position=5)
    usable, skipped = usable_proposals([short, silent, whole, undefined, infinite, both], 3)
    assert usable == [whole]
    assert skipped == {INCOMPLETE: ["p1", "p2", "p5"], NON_FINITE: ["p3", "p4"]}
    assert set(skipped) < set(SKIP_REASONS)


def test_a_text_without_letters_is_no_response_without_tokens() -> None:
    """A response may be an end token alone: an empty text with one token."""
    case = proposal(ABC, np.zeros((2, 3)))
    end = Candidate(text="", token_ids=(0,), logprobs=(-1.0,), finish_reason="stop")
    case = dataclasses.replace(case, candidates=(end, *case.candidates[1:]))
    assert usable_proposals([case], 3)[0] == [case]


def test_an_ensemble_without_a_finite_reward_has_diverged() -> None:
    hopeless = [proposal(ABC, np.full((2, 3), NAN), position=i) for i in range(3)]
    with pytest.raises(ArithmeticError, match=r"diverged \(erm_lr, erm_lambda\)"):
        usable_proposals(hopeless, 3)
    # One finite number in the round: the prompts are left out, the run goes on.
    other = proposal(ABC, [[NAN, NAN, 1.0]] * 2, position=3)
    usable, skipped = usable_proposals([*hopeless, other], 3)
    assert not usable
    assert skipped[NON_FINITE] == ["p0", "p1", "p2", "p3"]


def test_no_responses_at_all_are_not_the_ensembles_fault() -> None:
    empty = [proposal((), np.zeros((2, 0)), position=i) for i in range(2)]
    assert usable_proposals(empty, 3) == ([], {INCOMPLETE: ["p0", "p1"], NON_FINITE: []})
    assert usable_proposals([], 3) == ([], {INCOMPLETE: [], NON_FINITE: []})


# -- What strategies see --------------------------------------------------------------


def test_a_round_as_tensors() -> None:
    first = proposal(("a", "bb", "a"), [[1, 2, 3], [4, 5, 6]], num_from_reference=1)
    second = proposal(ABC, [[7, 8, 9], [10, 11, 12]], num_from_reference=1, token_log_prob=-0.5)
    implicit = np.arange(6.0).reshape(2, 3)
    view = stack([first, second], implicit)
    assert view.rewards.tolist() == [[[1, 2, 3], [7, 8, 9]], [[4, 5, 6], [10, 11, 12]]]
    assert view.texts.tolist() == [[0, 1, 0], [0, 1, 2]]
    assert view.log_probs.tolist() == [[-1, -2, -1], [-0.5, -1, -1.5]]
    assert view.implicit_rewards is not None
    assert view.implicit_rewards.tolist() == implicit.tolist()
    assert view.from_reference.tolist() == [False, False, True]
    assert stack([first], None).implicit_rewards is None
    none_from_reference = stack([proposal(ABC, np.zeros((1, 3)))], None)
    assert not none_from_reference.from_reference.any()


# -- What is selected -----------------------------------------------------------------


def test_real_and_synthetic_by_position() -> None:
    """Positions, not places in the list, say which pairs are synthetic: position 1 was left out.

    With one member its favourite is known: the label is that of the larger reward.
    """
    cases = [
        proposal(ABC, [[1, 2, 3]], position=0),
        proposal(ABC, [[1, 2, 3]], position=2),
        proposal(ABC, [[2, 1, 3]], position=3),
    ]
    synthetic = {0: False, 1: True, 2: True, 3: True}
    duels, one_text = select(cases, synthetic=synthetic)
    assert not one_text
    assert [d.proposal.position for d in duels] == [0, 2, 3]
    assert [d.synthetic for d in duels] == [False, True, True]
    assert [(d.first, d.second) for d in duels] == [(0, 1)] * 3
    assert [d.member for d in duels] == [-1, 0, 0]
    assert [d.own_preference for d in duels[1:]] == [0.0, 1.0]

    duels, _ = select(cases, synthetic=synthetic, synthetic_pair="best_vs_worst")
    assert [(d.first, d.second) for d in duels] == [(0, 1), (2, 0), (2, 1)]
    assert all(d.own_preference == 1 for d in duels[1:])


def test_the_strategys_options_arrive() -> None:
    """Logits 10 and 13 differ more than 0.1 and 2, their probabilities less."""
    case = proposal(ABC, [[0, -10, -0.1], [0, -13, -2]])
    for options, second in (({}, 2), ({"variance": "probability"}, 2), ({"variance": "logit"}, 1)):
        (duel,), _ = select([case], exploration_strategy="bai_ts", strategy_config=options)
        assert (duel.first, duel.second) == (0, second)


def test_prompts_of_one_text_have_no_duel_and_are_named() -> None:
    cases = [
        proposal(("a", "a", "a"), np.zeros((2, 3)), position=0),
        proposal(ABC, np.zeros((2, 3)), position=1),
        proposal(("", "", ""), np.zeros((2, 3)), position=2),
    ]
    duels, one_text = select(cases)
    assert [d.proposal.position for d in duels] == [1]
    assert one_text == ["p0", "p2"]
    assert select(cases[:1]) == ([], ["p0"])
    assert select([]) == ([], [])


def test_xpo_has_no_duel_where_the_reference_says_the_same() -> None:
    """Other candidates of the policy cannot help: one of the two is the reference's."""
    same = proposal(("a", "bb", "a", "a"), np.zeros((2, 4)), position=0, num_from_reference=2)
    other = proposal(("a", "bb", "a", "c"), np.zeros((2, 4)), position=1, num_from_reference=2)
    (duel,), one_text = select([same, other], exploration_strategy="xpo")
    assert one_text == ["p0"]
    assert (duel.proposal.position, duel.first, duel.second, duel.clash) == (1, 0, 3, True)


def pool() -> list[Proposal]:
    """Entropies 4, 1, 6, 2, 9, 3 at tokens of one letter; position 4 is of one text."""
    texts = [("a", "b")] * 4 + [("a", "a")] + [("a", "b")]
    return [
        proposal(row, np.zeros((2, 2)), position=i, token_log_prob=-entropy)
        for i, (row, entropy) in enumerate(zip(texts, (4.0, 1.0, 6.0, 2.0, 9.0, 3.0), strict=True))
    ]


@pytest.mark.parametrize(
    ("num_duels", "positions"),
    [(1, [2]), (2, [0, 2]), (3, [0, 2, 5]), (5, [0, 1, 2, 3, 5]), (6, [0, 1, 2, 3, 5])],
)
def test_acquisition_keeps_so_many_prompts_in_their_order(
    num_duels: int, positions: list[int]
) -> None:
    """A prompt without a duel takes no place, and is named whether or not places were left."""
    duels, one_text = select(pool(), prompt_acquisition="entropy", num_duels=num_duels)
    assert [d.proposal.position for d in duels] == positions
    assert one_text == ["p4"]


def test_acquisition_by_certainty_looks_at_the_selected_pair() -> None:
    """Margins of `apl`'s pairs: 3, 1, 2."""
    cases = [proposal(ABC, np.zeros((2, 3)), position=i) for i in range(3)]
    implicit = np.array([[0.0, 1.0, -2.0], [0.0, 0.5, 1.0], [2.0, 1.0, 0.0]])
    duels, _ = select(
        cases, implicit, exploration_strategy="apl", prompt_acquisition="certainty", num_duels=2
    )
    assert [(d.proposal.position, d.first, d.second) for d in duels] == [(0, 1, 2), (2, 0, 2)]


# -- Labels ---------------------------------------------------------------------------


def test_a_labelled_duel_has_what_was_selected_and_what_was_answered() -> None:
    case = proposal(ABC, [[1, 2, 3], [4, 5, 6]], position=5)
    duel = selected(case, 2, 0).labelled(9, Label(0.0), 0.25, (1.5, 2.5))
    assert (duel.round, duel.position, duel.prompt_id) == (9, 5, "p5")
    assert (duel.prompt_text, duel.prompt_token_ids) == ("prompt 5", (1, 5))
    assert (duel.first, duel.second) == (case.candidates[2], case.candidates[0])
    assert duel.features.tolist() == [[5, 2], [5, 0]]
    assert duel.member_rewards.tolist() == [[3, 6], [1, 4]]
    assert not duel.first_wins
    assert (duel.win_probability, duel.scores) == (0.25, (1.5, 2.5))
    assert (duel.synthetic, duel.policy_version) == (False, 7)
    pair = duel.preference_pair()
    assert pair.chosen_token_ids == tuple(map(ord, "a"))
    assert pair.rejected_token_ids == tuple(map(ord, "ccc"))


@pytest.mark.parametrize("label", [1.0, 0.0, 0.75])
def test_a_synthetic_duel_has_the_erms_label_and_no_answer(label: float) -> None:
    case = proposal(ABC, np.zeros((2, 3)))
    duel = selected(case, synthetic=True, own_preference=label).labelled(0)
    assert duel.label == Label(label)
    assert duel.synthetic
    assert math.isnan(duel.win_probability)
    assert all(map(math.isnan, duel.scores))
    assert duel.preference_pair().synthetic


@pytest.mark.parametrize(
    ("label", "chosen", "preference"),
    [(1.0, "a", 1.0), (0.75, "a", 0.75), (0.5, "a", 0.5), (0.25, "bb", 0.75), (0.0, "bb", 1.0)],
)
def test_a_pair_has_the_likelier_response_first(
    label: float, chosen: str, preference: float
) -> None:
    """Of a tie the first response."""
    case = proposal(ABC, np.zeros((2, 3)), num_from_reference=2)
    duel = selected(case, 0, 1).labelled(0, Label(1.0), 0.5)
    duel = dataclasses.replace(duel, label=Label(label, 2.5))
    pair = duel.preference_pair()
    assert pair.chosen_token_ids == tuple(map(ord, chosen))
    assert duel.chosen.text == chosen
    assert {duel.chosen, duel.rejected} == {duel.first, duel.second}
    assert (pair.preference, pair.weight) == (preference, 2.5)
    assert pair.is_tie == (label == 0.5)
    assert pair.from_reference == ("rejected" if chosen == "a" else "chosen")


@pytest.mark.parametrize("preference", [0.4999, 1.0001, NAN])
def test_a_pair_the_wrong_way_round_is_refused(preference: float) -> None:
    with pytest.raises(ValueError, match=r"prompt 'p': preference .* is outside \[0\.5, 1\]"):
        PreferencePair("p", (1,), (2,), (3,), synthetic=False, preference=preference)


def test_the_samples_name_the_preferred_response_or_the_tie(tmp_path: Path) -> None:
    duel = selected(proposal(ABC, np.zeros((2, 3)))).labelled(0, Label(0.0), 0.5)
    append_duels(tmp_path, 0, [duel])
    assert marks(tmp_path) == ["**First**", "**Second (preferred)**"]
    append_duels(tmp_path, 0, [dataclasses.replace(duel, label=Label(0.5))])
    assert marks(tmp_path)[2:] == ["**First (tie)**", "**Second (tie)**"]


def marks(folder: Path) -> list[str]:
    return re.findall(r"\*\*.*?\*\*", (folder / SAMPLE_DUELS_FILE).read_text())


@pytest.mark.parametrize(
    ("first", "second", "first_wins", "from_reference", "named"),
    [
        (0, 3, True, (False, True), "rejected"),
        (0, 3, False, (False, True), "chosen"),
        (2, 1, True, (True, False), "chosen"),
        (2, 1, False, (True, False), "rejected"),
        (2, 3, True, (True, True), None),
        (0, 1, False, (False, False), None),
    ],
)
def test_which_response_is_the_references(
    first: int,
    second: int,
    first_wins: bool,
    from_reference: tuple[bool, bool],
    named: str | None,
) -> None:
    """Of four candidates the last two are from the reference policy."""
    case = proposal((*ABC, "dddd"), np.zeros((2, 4)), num_from_reference=2)
    duel = selected(case, first, second).labelled(0, Label(float(first_wins)), 0.5)
    assert duel.from_reference == from_reference
    assert duel.preference_pair().from_reference == named


# -- Who shares a round changes nothing -------------------------------------------------


def random_round(rng: np.random.Generator, name: str) -> tuple[list[Proposal], np.ndarray]:
    """Prompts with repeated texts at scattered positions, and implicit rewards."""
    num_prompts, num_members, num_candidates = 9, int(rng.integers(1, 8)), 6
    reference = num_candidates // 2 if STRATEGIES[name].reference_candidates else 0
    positions = rng.permutation(20)[:num_prompts]
    cases = []
    for position in positions:
        numbers = rng.integers(rng.integers(1, 6), size=num_candidates)
        by_text = rng.normal(size=(num_members, num_candidates))
        cases.append(
            proposal(
                [f"text {n}" for n in numbers],
                by_text[:, numbers],
                position=int(position),
                num_from_reference=reference,
            )
        )
    return cases, rng.normal(size=(num_prompts, num_candidates))


@pytest.mark.parametrize("synthetic_pair", SYNTHETIC_PAIRS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_prompts_duel_does_not_depend_on_the_others(name: str, synthetic_pair: str) -> None:
    """One batch, two batches, and each prompt alone, in another order: the same duels."""
    real = synthetic_duels = without = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, 17])
        cases, implicit = random_round(rng, name)
        synthetic = dict(enumerate((rng.random(20) < 0.4).tolist()))

        def some(
            rows: Sequence[int],
            cases: list[Proposal] = cases,
            implicit: np.ndarray = implicit,
            synthetic: dict[int, bool] = synthetic,
            seed: int = seed,
        ) -> dict[int, tuple[Any, ...] | None]:
            needed = STRATEGIES[name].needs_implicit_rewards
            duels, one_text = select(
                [cases[i] for i in rows],
                implicit[rows] if needed else None,
                exploration_strategy=name,
                synthetic=synthetic,
                synthetic_pair=synthetic_pair,
                seed=seed,
                round_index=seed % 3,
            )
            found: dict[int, tuple[Any, ...] | None] = {int(p[1:]): None for p in one_text}
            for d in duels:
                label = d.own_preference if d.synthetic else None
                found[d.proposal.position] = (
                    d.first,
                    d.second,
                    d.member,
                    d.clash,
                    d.synthetic,
                    label,
                )
            assert len(found) == len(rows)
            return found

        order = rng.permutation(len(cases)).tolist()
        whole = some(range(len(cases)))
        assert some(order[:4]) | some(order[4:]) == whole
        alone: dict[int, tuple[Any, ...] | None] = {}
        for row in order:
            alone |= some([row])
        assert alone == whole
        for duel in whole.values():
            without += duel is None
            real += duel is not None and not duel[4]
            synthetic_duels += duel is not None and duel[4]
    assert min(real, synthetic_duels, without) > 20
