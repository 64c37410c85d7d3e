"""The oracle's interface: who wins a duel, asked in batches, about texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from text_duel.errors import OracleError
from text_duel.prompts import Prompt


class Oracle(ABC):
    """Answers which of two responses is preferred.

    Attributes:
        name: Identity with every parameter that matters; recorded with a run.
        has_scores: Whether :meth:`score` gives numbers.
    """

    name: str
    has_scores: bool = False

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
    """An oracle whose preferences follow Bradley and Terry from its scores."""

    has_scores = True

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        """See :meth:`Oracle.score`."""

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """``sigmoid(score(first) - score(second))``; see :meth:`Oracle.compare`."""
        scores = self.score([*prompts, *prompts], [*first, *second])
        margin = scores[: len(prompts)] - scores[len(prompts) :]
        return win_probability(margin)


def win_probability(margin: np.ndarray) -> np.ndarray:
    """The logistic function of a score margin, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(margin, dtype=np.float64)))


def checked_comparison(
    oracle: Oracle, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
) -> np.ndarray:
    """Asks an oracle and checks that it answered.

    Raises:
        OracleError: Where it raised, or its answer is no probability for each question.
    """
    try:
        answer = np.asarray(oracle.compare(prompts, first, second), dtype=np.float64)
    except Exception as error:
        raise OracleError(
            f"oracle {oracle.name} could not answer {len(prompts)} questions: "
            f"{type(error).__name__}: {error}"
        ) from error
    if answer.shape != (len(prompts),):
        raise OracleError(
            f"oracle {oracle.name} answered with shape {answer.shape}, expected ({len(prompts)},)"
        )
    if not np.all((answer >= 0.0) & (answer <= 1.0)):
        bad = next(i for i, p in enumerate(answer) if not 0.0 <= p <= 1.0)
        raise OracleError(
            f"oracle {oracle.name} answered {answer[bad]} for prompt {prompts[bad].id!r}, "
            "expected a probability in [0, 1]"
        )
    return answer
