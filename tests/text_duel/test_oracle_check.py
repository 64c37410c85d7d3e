"""check_oracle passes what keeps the promises, and says which promise is broken."""

import numpy as np
import pytest
from own_oracles import Alphabetical, Constant, HalfFailing, NoOracle, Unreliable

from text_duel import LengthOracle, Oracle, ask_oracle, check_oracle, load_prompts

PROMPTS = load_prompts("tldr_mini", limit=6)


class Broken(Alphabetical):
    """Sound but for what a test replaces."""

    def __init__(self, **methods) -> None:
        for name, method in methods.items():
            setattr(self, name, method)


def by_length(prompts, first, second) -> np.ndarray:
    return np.array([0.9 if len(a) > len(b) else 0.1 for a, b in zip(first, second, strict=True)])


def batch_dependent(prompts, first, second) -> np.ndarray:
    return 0.5 + (by_length(prompts, first, second) - 0.5) / len(prompts)


def changing(prompts, first, second) -> np.ndarray:
    prompts[0].fields["seen"] = "yes"
    return by_length(prompts, first, second)


@pytest.mark.parametrize("oracle", [LengthOracle(), LengthOracle(0), Alphabetical(), Unreliable()])
def test_sound_oracles_pass(oracle: Oracle) -> None:
    check_oracle(oracle, PROMPTS)
    check_oracle(oracle, PROMPTS[:2])


def test_constant_is_sound_only_at_a_half() -> None:
    check_oracle(Constant(0.5), PROMPTS)
    with pytest.raises(AssertionError, match=r"is \[1\.2 .*expected 1: the order"):
        check_oracle(Constant(0.6), PROMPTS)


def test_a_stochastic_oracle_is_told_who_draws_labels() -> None:
    rng = np.random.default_rng(0)
    oracle = Broken(compare=lambda prompts, first, second: rng.random(len(prompts)))
    with pytest.raises(
        AssertionError, match=r"for the same questions.*environment draws the label"
    ):
        check_oracle(oracle, PROMPTS)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        (lambda p, a, b: np.full((len(p), 1), 0.5), r"gave shape \(4, 1\) for 4 questions.*\(4,\)"),
        (lambda p, a, b: 0.5, r"gave shape \(\) for 4 questions"),
        (lambda p, a, b: np.full(len(p), 1.2), r"1\.2.*expected probabilities in \[0, 1\]"),
        (lambda p, a, b: np.full(len(p), -0.2), r"-0\.2.*expected probabilities"),
        (lambda p, a, b: np.full(len(p), np.nan), r"nan.*expected probabilities"),
        (batch_dependent, "in a batch and .* one at a time"),
        (changing, r"compare\(\) changed its arguments"),
    ],
)
def test_broken_preferences(compare, message: str) -> None:
    prompts = load_prompts("tldr_mini", limit=6)
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_oracle(Broken(compare=compare), prompts)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda p, r: np.zeros((len(r), 2)), r"score\(\) gave shape \(4, 2\) for 4 responses"),
        (lambda p, r: np.full(len(r), np.inf), r"score\(\) gave .*expected finite numbers"),
        (lambda p, r: -np.array([len(x) for x in r]), r"score\(\) says .* where compare\(\) says"),
    ],
)
def test_broken_scores(score, message: str) -> None:
    oracle = Broken(compare=by_length, score=score, has_scores=True)
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_oracle(oracle, PROMPTS)
    with pytest.raises(AssertionError, match="expected finite"):
        check_oracle(HalfFailing(), PROMPTS)


def test_the_interface_itself_is_checked() -> None:
    with pytest.raises(AssertionError, match=r"is no subclass of text_duel\.Oracle"):
        check_oracle(NoOracle(), PROMPTS)
    with pytest.raises(AssertionError, match="the oracle's name is empty"):
        check_oracle(Broken(name=""), PROMPTS)
    with pytest.raises(AssertionError, match="name is 3, expected text"):
        check_oracle(Broken(name=3), PROMPTS)
    with pytest.raises(AssertionError, match="1 prompts are too few"):
        check_oracle(LengthOracle(), PROMPTS[:1])


def test_length_oracle_by_hand() -> None:
    oracle = LengthOracle(3)
    assert oracle.name == "length(target=3)"
    scores = oracle.score(PROMPTS[:4], ["", "one", "a b c", "a b c d e"])
    assert scores.tolist() == [-3.0, -2.0, 0.0, -2.0]
    assert oracle.compare(PROMPTS[:1], ["a b c"], ["one"]) == pytest.approx(1 / (1 + np.exp(-2)))
    answers = ask_oracle(oracle, PROMPTS[:1], ["a b c"], ["one"])
    assert (answers.first_score, answers.second_score) == (0.0, -2.0)
    assert answers.win_probability == pytest.approx(1 / (1 + np.exp(-2)))


def test_huge_margins_do_not_overflow() -> None:
    far = LengthOracle(0)
    p = far.compare(PROMPTS[:2], ["", "w " * 5000], ["w " * 5000, ""])
    assert p.tolist() == [1.0, 0.0]
