"""A checker for one's own oracles, in the manner of Gymnasium's ``check_env``."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from text_duel.oracles.base import Oracle, win_probability
from text_duel.prompts import Prompt

_RESPONSES = ("I need some advice.", "It went wrong, and now I do not know what to do")


def check_oracle(oracle: Oracle, prompts: Sequence[Prompt], *, tolerance: float = 1e-4) -> None:
    """Checks that an oracle keeps its interface's promises.

    Asks about made-up responses to the first four prompts: shapes, range, the same answers
    again, antisymmetry, the same answers one at a time, and scores that agree with preferences.
    Some of the questions may be skipped (NaN).

    Args:
        oracle: The oracle.
        prompts: At least two prompts.
        tolerance: How far apart two probabilities may be that should be equal. A reward model
            in bfloat16 needs about 0.02.

    Raises:
        AssertionError: For the first promise that is broken, saying how.
    """
    assert isinstance(oracle, Oracle), f"{oracle!r} is no subclass of text_duel.Oracle"
    name = getattr(oracle, "name", None)
    assert isinstance(name, str), f"the oracle's name is {name!r}, expected text"
    assert name, "the oracle's name is empty: it is recorded with the run"
    assert len(prompts) >= 2, f"{len(prompts)} prompts are too few, expected at least 2"
    asked = list(prompts[:4])
    first = [prompt.text.split(".")[0] + "." for prompt in asked]
    second = [_RESPONSES[i % 2] for i in range(len(asked))]
    before = copy.deepcopy((asked, first, second))

    answer = _compare(oracle, asked, first, second)
    assert not np.all(np.isnan(answer)), (
        f"compare() gave {answer}, expected probabilities: it skips every question"
    )
    again = _compare(oracle, asked, first, second)
    assert np.allclose(answer, again, atol=tolerance, equal_nan=True), (
        f"compare() gave {answer}, then {again} for the same questions: an oracle gives its "
        "probability, the environment draws the label"
    )
    reverse = _compare(oracle, asked, second, first)
    assert np.allclose(answer, 1.0 - reverse, atol=tolerance, equal_nan=True), (
        f"compare(a, b) + compare(b, a) is {answer + reverse}, expected 1: the order of the "
        "responses must not matter"
    )
    single = np.concatenate(
        [_compare(oracle, [p], [a], [b]) for p, a, b in zip(asked, first, second, strict=True)]
    )
    assert np.allclose(answer, single, atol=tolerance, equal_nan=True), (
        f"compare() gave {answer} in a batch and {single} one at a time"
    )
    assert (asked, first, second) == before, "compare() changed its arguments"

    if oracle.has_scores:
        first_score, second_score = _score(oracle, asked, first), _score(oracle, asked, second)
        assert not np.all(np.isnan(first_score)), (
            f"score() gave {first_score}, expected finite numbers"
        )
        expected = win_probability(first_score - second_score)
        near_tie = (np.abs(expected - 0.5) <= tolerance) | (np.abs(answer - 0.5) <= tolerance)
        skipped = np.isnan(expected) | np.isnan(answer)
        assert np.all(near_tie | skipped | ((expected > 0.5) == (answer > 0.5))), (
            f"score() says {expected} where compare() says {answer}"
        )


def _compare(
    oracle: Oracle, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
) -> np.ndarray:
    answer = np.asarray(oracle.compare(prompts, first, second), dtype=np.float64)
    assert answer.shape == (len(prompts),), (
        f"compare() gave shape {answer.shape} for {len(prompts)} questions, "
        f"expected ({len(prompts)},)"
    )
    assert np.all((answer >= 0) & (answer <= 1) | np.isnan(answer)), (
        f"compare() gave {answer}, expected probabilities in [0, 1]"
    )
    return answer


def _score(oracle: Oracle, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
    scores = np.asarray(oracle.score(prompts, responses), dtype=np.float64)
    assert scores.shape == (len(prompts),), (
        f"score() gave shape {scores.shape} for {len(prompts)} responses, "
        f"expected ({len(prompts)},)"
    )
    assert not np.any(np.isinf(scores)), f"score() gave {scores}, expected finite numbers"
    return scores
