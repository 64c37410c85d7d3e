"""The summary of an evaluation against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rllib_sea.duels.records import Candidate
from rllib_sea.duels.rounds import (
    EvaluatedPrompt,
    HeldOutResponses,
    Outcome,
    ReferenceFit,
    TokenizedPrompt,
)
from rllib_sea.evaluation import HeldOut, summarise
from rllib_sea.labelling.measuring import Measuring
from rllib_sea.policy.prompt_sets import PromptSet
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy_update.scores import PromptResponses, ResponseScores
from rllib_sea.statistics import Z_95
from text_duel import Prompt

NAN = math.nan


def outcome(
    initial: float,
    reference: float = NAN,
    score: float = NAN,
    *,
    length: int = 4,
    ended: bool = True,
    text: str = "text",
) -> Outcome:
    return Outcome(
        response=text,
        num_tokens=length,
        finished=ended,
        win_vs_initial=initial,
        win_vs_reference=reference,
        score=score,
        num_questions=2,
    )


def prompt(
    greedy: Outcome, best: Outcome | None = None, *, initial_score: float = NAN, kl: float = NAN
) -> EvaluatedPrompt:
    return EvaluatedPrompt(
        prompt_id="p",
        prompt_text="prompt",
        prompt_token_ids=(1,),
        reference=None,
        initial_response="start",
        initial_score=initial_score,
        greedy=greedy,
        best_of_n=best,
        sampled_token_ids=None if math.isnan(kl) else (1, 2),
        kl=kl,
    )


def normal(*values: float) -> dict[str, float]:
    """Mean and 95% interval of two values, whose half difference is ``s / sqrt(2)``."""
    a, b = values
    mean, half = (a + b) / 2, Z_95 * abs(a - b) / 2
    return {"": mean, "_low": mean - half, "_high": mean + half}


def wilson(rate: float, num: int) -> dict[str, float]:
    """Ends are the roots of ``(q - rate)^2 = z^2 q (1 - q) / num``."""
    z2 = Z_95**2 / num
    a, b, c = 1 + z2, -(2 * rate + z2), rate**2
    root = math.sqrt(b * b - 4 * a * c)
    return {"": rate, "_low": (-b - root) / (2 * a), "_high": (-b + root) / (2 * a)}


def named(name: str, values: dict[str, float]) -> dict[str, object]:
    return {f"{name}{end}": pytest.approx(value) for end, value in values.items()}


def test_everything_that_was_asked_for() -> None:
    """Greedy: won and a tie; lost to one reference. Best of N: won twice."""
    evaluated = [
        prompt(
            outcome(0.9, 0.2, 3.0, length=4),
            outcome(0.8, 0.6, 5.0, length=2),
            initial_score=1.0,
            kl=0.5,
        ),
        prompt(
            outcome(0.5, NAN, 1.0, length=9, ended=False),
            outcome(0.6, NAN, 2.0, length=3),
            initial_score=2.0,
            kl=1.5,
        ),
    ]
    one_reference = {"win_rate_vs_reference_soft_low": NAN, "win_rate_vs_reference_soft_high": NAN}
    expected: dict[str, object] = {
        "num_prompts": 2.0,
        **named("win_rate_vs_initial", wilson(0.75, 2)),
        **named("win_rate_vs_initial_soft", normal(0.9, 0.5)),
        **named("win_rate_vs_reference", wilson(0.0, 1)),
        "win_rate_vs_reference_soft": 0.2,
        **named("mean_score", normal(3.0, 1.0)),
        **named("initial_mean_score", normal(1.0, 2.0)),
        "response_length": 6.5,
        "finished_share": 0.5,
        **named("best_of_n_win_rate_vs_initial", wilson(1.0, 2)),
        **named("best_of_n_win_rate_vs_initial_soft", normal(0.8, 0.6)),
        **named("best_of_n_win_rate_vs_reference", wilson(1.0, 1)),
        "best_of_n_win_rate_vs_reference_soft": 0.6,
        **named("best_of_n_mean_score", normal(5.0, 2.0)),
        "best_of_n_response_length": 2.5,
        "best_of_n_finished_share": 1.0,
        **named("kl", normal(0.5, 1.5)),
        "repeated_share": 0.0,
        "copied_share": 0.0,
        "initial_repeated_share": 0.0,
        "initial_copied_share": 0.0,
    }
    results = summarise(evaluated)
    # A single reference has no interval.
    for end in one_reference:
        assert math.isnan(results.pop(end))
        assert math.isnan(results.pop(f"best_of_n_{end}"))
    assert results == expected


def test_what_was_not_asked_for_is_left_out() -> None:
    results = summarise([prompt(outcome(0.9)), prompt(outcome(0.1))])
    assert set(results) == {
        "num_prompts",
        "win_rate_vs_initial",
        "win_rate_vs_initial_low",
        "win_rate_vs_initial_high",
        "win_rate_vs_initial_soft",
        "win_rate_vs_initial_soft_low",
        "win_rate_vs_initial_soft_high",
        "response_length",
        "finished_share",
        "repeated_share",
        "copied_share",
        "initial_repeated_share",
        "initial_copied_share",
    }


def test_a_divergence_of_zero_is_a_result() -> None:
    """Before the first update the policy is its reference."""
    results = summarise([prompt(outcome(0.5), kl=0.0)] * 2)
    assert (results["kl"], results["kl_low"], results["kl_high"]) == (0.0, 0.0, 0.0)


def test_what_a_win_rate_may_hide() -> None:
    """Of one prompt all is repeated or copied, the other has no trigram; perplexity by token."""
    hacked = outcome(0.9, text="so good so good so good so")  # 5 trigrams, 2 different ones
    good, cut = Candidate("a", (1,), (), "stop"), Candidate("b", (1,), (), "length")
    first = replace(
        prompt(hacked, kl=1.0),
        prompt_text="It is So good so far",  # of the trigrams "so good so" is there, 3 of 5
        initial_response="it is so bad",
        reference_fit=ReferenceFit(3, -6.0, -3.0),
        pair=(good, cut),
    )
    second = replace(
        prompt(outcome(0.9, text="short"), kl=1.0),
        reference_fit=ReferenceFit(1, -2.0, -1.0),
        pair=(good, good),
    )
    results = summarise([first, second, replace(second, reference_fit=None, pair=None)])
    assert results["repeated_share"] == pytest.approx(3 / 5 / 3)
    assert results["copied_share"] == pytest.approx(3 / 5 / 3)
    assert results["initial_repeated_share"] == 0.0
    assert results["initial_copied_share"] == pytest.approx(1 / 2 / 3)
    assert results["initial_finished_share"] == 0.5
    assert results["reference_perplexity"] == pytest.approx(math.exp(8 / 4))
    assert results["initial_reference_perplexity"] == pytest.approx(math.e)


class Initial:
    """Stands in for sampling and the policy: the initial one responds with a prompt's length."""

    is_trained = True

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.asked: list[str] = []
        self.weights = SimpleNamespace(initial=lambda: "initial")

    def respond(
        self, prompts: Sequence[TokenizedPrompt], places: Sequence[int], policy: Any
    ) -> list[tuple[Candidate, ...]]:
        assert policy == "initial"
        self.asked = [prompt.text for prompt in prompts]
        return [
            (response(str(len(prompt.text))), *[response(f"sampled at {place}")] * self.num_samples)
            for prompt, place in zip(prompts, places, strict=True)
        ]


def response(text: str) -> Candidate:
    return Candidate(text, (1,), (0.0,), "stop")


def held_out(
    tiny_policy: Path, *texts: str, num_samples: int = 0
) -> tuple[HeldOut, Initial, list[str]]:
    prompts = [Prompt(f"test-{i}", text, {}, None) for i, text in enumerate(texts)]
    tokenized = PromptSet(prompts, PromptTokenizer(tiny_policy), 1000)
    initial, warnings = Initial(num_samples), list[str]()
    fake: Any = initial
    tested = HeldOut(fake, fake, fake, tokenized, 0, num_samples, warnings.append)
    return tested, initial, warnings


def test_initial_responses_belong_to_what_was_asked_not_to_its_place(tiny_policy: Path) -> None:
    """Rows in another order, one gone, one edited: only what is new is asked anew, and said."""
    before, initial, warnings = held_out(tiny_policy, "a", "bb", "ccc")
    assert before.get_state() == {}
    assert [made.text for (made,) in before.baseline()] == ["1", "2", "3"]
    assert initial.asked == ["a", "bb", "ccc"]
    state = before.get_state() | {"a": (response("of the checkpoint"),)}
    after, initial, warnings = held_out(tiny_policy, "ccc", "bbbb", "a")
    after.set_state(state)
    assert [made.text for (made,) in after.baseline()] == ["3", "4", "of the checkpoint"]
    assert initial.asked == ["bbbb"]
    assert warnings == [
        "1 of the 3 held-out prompts are new or edited since the checkpoint: the initial policy's "
        "responses to them are made now"
    ]
    assert [made.text for (made,) in after.baseline()] == ["3", "4", "of the checkpoint"]
    assert len(warnings) == 1


def test_samples_that_a_checkpoint_lacks_are_made(tiny_policy: Path) -> None:
    """It was written with one sample per prompt: with two all are made anew, with none no one."""
    before, _, _ = held_out(tiny_policy, "a", "bb", num_samples=1)
    assert [[one.text for one in row] for row in before.baseline()] == [
        ["1", "sampled at 0"],
        ["2", "sampled at 1"],
    ]
    for num_samples, asked in ((2, ["a", "bb"]), (1, []), (0, [])):
        after, initial, warnings = held_out(tiny_policy, "a", "bb", num_samples=num_samples)
        after.set_state(before.get_state())
        assert min(map(len, after.baseline())) > num_samples
        assert (initial.asked, warnings) == (asked, [])


def test_a_checkpoint_of_greedy_responses_alone_is_taken_over(tiny_policy: Path) -> None:
    """As they were written before samples were compared."""
    tested, initial, warnings = held_out(tiny_policy, "a")
    tested.set_state({"a": response("greedy")})
    assert tested.baseline() == [(response("greedy"),)]
    assert (initial.asked, warnings) == ([], [])


def test_each_sample_is_compared_with_the_one_of_its_seed() -> None:
    """Which is why a policy that has not moved ties with itself; prompts weigh alike."""

    def compare(what: str, rows: list[Any]) -> list[float]:
        if what == "score":
            return [float(len(text)) for _, text in rows]
        assert [row.second for row in rows] == (["first"] if len(rows) == 1 else ["first", "other"])
        return [0.9, 0.2][: len(rows)]

    class Labeller:
        def call(self, what: str, rows: list[Any]) -> list[float]:
            return compare(what, rows)

    fake: Any = Labeller()
    oracle: Any = SimpleNamespace(has_scores=True, asks_people=False)
    same, ours = response("same"), response("ours")
    found = Measuring(fake, oracle)._samples(
        [Prompt("a", "a", {}, "reference"), Prompt("b", "b", {}, None)],
        [
            HeldOutResponses((1,), same, None, None, (ours, same, ours)),
            HeldOutResponses((1,), same, None, None, (same,)),
        ],
        [
            (same, response("first"), same, response("other")),
            (same, same, response("nobody's")),
        ],
    )
    assert [[one.win_vs_initial for one in row] for row in found] == [[0.9, 0.5, 0.2], [0.5]]
    assert [[one.num_questions for one in row] for row in found] == [[1, 0, 1], [0]]
    assert all(math.isnan(one.win_vs_reference) for row in found for one in row)


def test_without_samples_the_labeller_is_not_called() -> None:
    """An empty call would count as an answer of an oracle that is away."""

    class Nobody:
        def call(self, what: str, rows: list[Any]) -> list[float]:
            pytest.fail(f"called to {what} {rows}")

    fake: Any = Nobody()
    oracle: Any = SimpleNamespace(has_scores=True, asks_people=False)
    asked = [HeldOutResponses((1,), response("ours"), None, None)]
    found = Measuring(fake, oracle)._samples(
        [Prompt("a", "a", {}, None)], asked, [(response("start"),)]
    )
    assert found == [()]


def test_samples_are_averaged_within_their_prompt() -> None:
    """Means 0.6 and 0.2 of two prompts; the oracle skipped one sample, and all of a third."""
    few = [outcome(0.9, score=2.0, length=2), outcome(0.3, score=4.0, ended=False)]
    one = [outcome(0.2, score=1.0, length=3), outcome(NAN, length=5)]
    none = [outcome(NAN, length=6, ended=False)]
    evaluated = [
        replace(prompt(outcome(0.5)), samples=tuple(row)) for row in (few, one, none, list[Any]())
    ]
    results = summarise(evaluated)
    expected = {
        **named("sampled_win_rate_vs_initial", normal(0.5, 0.0)),
        **named("sampled_win_rate_vs_initial_soft", normal(0.6, 0.2)),
        **named("sampled_mean_score", normal(3.0, 1.0)),
        "sampled_response_length": pytest.approx((3 + 4 + 6) / 3),
        "sampled_finished_share": pytest.approx((0.5 + 1 + 0) / 3),
    }
    assert {name: results[name] for name in results if name.startswith("sampled")} == expected


class Scoring:
    """Stands in for the policy: a response's log-probability is minus its number of tokens."""

    is_trained = True

    def __init__(self) -> None:
        self.trainer = self

    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        lengths = np.array([len(one) for prompt in prompts for one in prompt.responses], float)
        return ResponseScores(-lengths, -2 * lengths, lengths / 10)


def test_references_are_scored_beside_what_was_sampled(tiny_policy: Path) -> None:
    """One prompt has no reference, one a long one, of one nothing was sampled; one is not asked."""
    tokenizer = PromptTokenizer(tiny_policy)
    references = ["one two", None, "word " * tokenizer.context_length, "three", "four"]
    prompts = [Prompt(f"test-{i}", "a b", {}, text) for i, text in enumerate(references)]
    whole = tokenizer.encode_responses(["a b"], ["one two"])[0]
    assert whole[-1] == tokenizer.end_token_id
    assert tokenizer.decode(whole) == "one two"
    most = 10
    fake: Any = Scoring()
    prompt_set = PromptSet(prompts, tokenizer, tokenizer.context_length - most)
    tested = HeldOut(fake, fake, fake, prompt_set, 4, 0, lambda text: None)
    sampled: list[tuple[int, ...] | None] = [(1,), (1, 2), (1, 2, 3), None, None]
    evaluated = [
        replace(prompt(outcome(0.5), kl=0.0), sampled_token_ids=token_ids, kl=NAN)
        for token_ids in sampled
    ]
    scored = tested._scored(evaluated)
    assert [one.kl for one in scored] == pytest.approx([0.1, 0.2, 0.3, NAN, NAN], nan_ok=True)
    lengths = [len(whole) - 1, None, most, prompt_set.references([3])[3], None]
    assert [one.reference_fit and one.reference_fit.num_tokens for one in scored] == [
        len(value) if isinstance(value, tuple) else value for value in lengths
    ]
    assert scored[0].reference_fit == ReferenceFit(
        len(whole) - 1, 1 - len(whole), 2 - 2 * len(whole)
    )
