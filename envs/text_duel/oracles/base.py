"""The oracle's interface: who wins a duel, asked in batches, about texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from text_duel.errors import OracleError
from text_duel.prompts import Prompt


class Oracle(ABC):
    """Answers which of two responses is preferred.

    An oracle gives probabilities and always the same ones; labels are drawn from them by the
    environment. Check one's own with :func:`text_duel.check_oracle`.

    Attributes:
        name: Identity with every parameter that matters; recorded with a run.
        has_scores: Whether :meth:`score` gives numbers.
        needs_references: Whether every prompt must have a reference response.
    """

    name: str
    has_scores: bool = False
    needs_references: bool = False

    @classmethod  # noqa: B027 - overriding it is optional
    def check_config(cls, **config: Any) -> None:
        """Checks the constructor's arguments without loading a model.

        Called before any engine starts, with keys that the constructor takes.

        Args:
            **config: The arguments that were given.

        Raises:
            ConfigError: For a bad value, or a model that cannot be found.
        """

    @abstractmethod
    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """Compares responses.

        Args:
            prompts: N prompts.
            first: N responses.
            second: N other responses.

        Returns:
            (N,) float64: the probability, in [0, 1], that the first is preferred.
            ``compare(p, a, b) + compare(p, b, a)`` is 1.

        Raises:
            Exception: Where the oracle cannot answer.
        """

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        """Scores responses, for oracles that have a scalar reward.

        Args:
            prompts: N prompts.
            responses: N responses.

        Returns:
            (N,) float64; differences are log-odds of winning.

        Raises:
            OracleError: Where the oracle has no scores.
        """
        raise OracleError(f"oracle {self.name} has no scores")


class ScoringOracle(Oracle):
    """An oracle whose preferences follow Bradley and Terry from its scores.

    One that has scores and other preferences is an :class:`Oracle` with ``has_scores``.
    """

    has_scores = True

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        """See :meth:`Oracle.score`."""

    @final
    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """``sigmoid(score(first) - score(second))``; see :meth:`Oracle.compare`."""
        scores = self.score([*prompts, *prompts], [*first, *second])
        return win_probability(scores[: len(prompts)] - scores[len(prompts) :])


def win_probability(margin: np.ndarray) -> np.ndarray:
    """The logistic function of score margins (N,), without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(margin, dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class Answers:
    """What an oracle said about N duels.

    Attributes:
        win_probability: (N,) float64 in [0, 1], that the first response is preferred.
        first_score: (N,) float64, NaN where the oracle has no scores.
        second_score: Likewise.
    """

    win_probability: np.ndarray
    first_score: np.ndarray
    second_score: np.ndarray


def ask_oracle(
    oracle: Oracle, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
) -> Answers:
    """Asks an oracle about duels and makes sure that it answered each of them.

    Args:
        oracle: The oracle.
        prompts: N prompts.
        first: N responses.
        second: N other responses.

    Returns:
        The answers to all questions.

    Raises:
        OracleError: The oracle raised, or gave no probability or no finite score for a question.
    """
    count = len(prompts)
    scores = np.full(2 * count, np.nan)
    try:
        if oracle.has_scores:
            scores = np.asarray(
                oracle.score([*prompts, *prompts], [*first, *second]), dtype=np.float64
            )
        if isinstance(oracle, ScoringOracle):  # its compare() would score everything again
            answer = win_probability(scores[:count] - scores[count:])
        else:
            answer = np.asarray(oracle.compare(prompts, first, second), dtype=np.float64)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise OracleError(
            f"oracle {oracle.name} could not answer {count} questions: "
            f"{type(error).__name__}: {reason}"
        ) from error
    if oracle.has_scores:
        if scores.shape != (2 * count,):
            raise OracleError(
                f"oracle {oracle.name} gave scores of shape {scores.shape} for {2 * count} "
                f"responses, expected ({2 * count},)"
            )
        for score, prompt in zip(scores, [*prompts, *prompts], strict=True):
            if not np.isfinite(score):
                raise OracleError(
                    f"oracle {oracle.name} gave the score {score} for prompt {prompt.id!r}, "
                    "expected a finite number"
                )
    if answer.shape != (count,):
        raise OracleError(
            f"oracle {oracle.name} answered with shape {answer.shape}, expected ({count},)"
        )
    for probability, prompt in zip(answer, prompts, strict=True):
        if not 0.0 <= probability <= 1.0:  # false for NaN, too
            raise OracleError(
                f"oracle {oracle.name} answered {probability} for prompt {prompt.id!r}, "
                "expected a probability in [0, 1]"
            )
    return Answers(answer, scores[:count], scores[count:])
