"""A checker for one's own oracles, in the manner of Gymnasium's ``check_env``."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from text_duel.oracles.base import Oracle, win_probability
from text_duel.prompts import Prompt

TOLERANCE = 1e-4


def check_oracle(oracle: Oracle, prompts: Sequence[Prompt]) -> None:
    """Checks that an oracle keeps its interface's promises.

    Asks about some made-up responses to the first prompts: shapes, range, antisymmetry,
    the same answers again and one at a time, and scores that agree with preferences.

    Args:
        oracle: The oracle.
        prompts: At least two prompts.

    Raises:
        AssertionError: For the first promise that is broken, saying how.
    """
    assert isinstance(oracle, Oracle), f"{oracle!r} is no subclass of text_duel.Oracle"
    assert isinstance(getattr(oracle, "name", None), str) and oracle.name, (
        "an oracle needs a name: it is recorded with the run"
    )
    assert len(prompts) >= 2, "at least two prompts are needed"
    asked = list(prompts[:4])
    before = copy.deepcopy(asked)
    first = [prompt.text.split(".")[0] + "." for prompt in asked]
    second = ["I need some advice.", "It went wrong, and now I do not know what to do"] * 2
    second = second[: len(asked)]

    answer = _compare(oracle, asked, first, second)
    assert answer.shape == (len(asked),), (
        f"compare() gave shape {answer.shape} for {len(asked)} questions, expected ({len(asked)},)"
    )
    assert np.all(np.isfinite(answer)) and np.all((answer >= 0) & (answer <= 1)), (
        f"compare() gave {answer}, expected probabilities in [0, 1]"
    )
    reverse = _compare(oracle, asked, second, first)
    assert np.allclose(answer + reverse, 1.0, atol=TOLERANCE), (
        f"compare(a, b) + compare(b, a) is {answer + reverse}, expected 1: the order of the "
        "responses must not matter"
    )
    again = _compare(oracle, asked, first, second)
    assert np.allclose(answer, again, atol=TOLERANCE), (
        f"compare() gave {answer}, then {again} for the same questions: an oracle gives its "
        "probability, the environment draws the label"
    )
    single = np.concatenate(
        [_compare(oracle, [p], [a], [b]) for p, a, b in zip(asked, first, second, strict=True)]
    )
    assert np.allclose(answer, single, atol=TOLERANCE), (
        f"compare() gave {answer} in a batch and {single} one at a time"
    )
    assert asked == before, "compare() changed the prompts"

    if oracle.has_scores:
        scores = [np.asarray(oracle.score(asked, responses)) for responses in (first, second)]
        assert all(s.shape == (len(asked),) and np.all(np.isfinite(s)) for s in scores), (
            f"score() gave {scores}, expected one finite number a response"
        )
        expected = win_probability(scores[0] - scores[1])
        assert np.array_equal(expected > 0.5, answer > 0.5), (
            f"score() says {expected} where compare() says {answer}"
        )


def _compare(
    oracle: Oracle, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
) -> np.ndarray:
    return np.asarray(oracle.compare(prompts, first, second), dtype=np.float64)
