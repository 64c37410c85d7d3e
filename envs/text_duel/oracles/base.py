"""The oracle's interface: who wins a duel, asked in batches or one by one, about texts."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from text_duel.errors import BrokenOracleError, OracleError, UnanswerableError
from text_duel.prompts import Prompt
from text_duel.verdicts import Verdict


class Oracle(ABC):
    """Answers which of two responses is preferred.

    An oracle gives probabilities and always the same ones; labels are drawn from them by the
    environment. Check one's own with :func:`text_duel.check_oracle`.

    Attributes:
        name: Identity with every parameter that matters; recorded with a run.
        has_scores: Whether :meth:`score` gives numbers.
        needs_references: Whether every prompt must have a reference response.
        asks_people: Whether it is people, who are asked for labels alone, on a page.
        num_cut: Of how many texts it has read the beginning only, so far.
    """

    name: str
    has_scores: bool = False
    needs_references: bool = False
    asks_people: bool = False
    num_cut: int = 0

    @classmethod  # noqa: B027 - overriding it is optional
    def check_config(cls, **config: Any) -> None:
        """Checks the constructor's arguments without loading a model.

        Called before any engine starts, with keys that the constructor takes.

        Args:
            **config: The arguments that were given.

        Raises:
            ConfigError: For a bad value, or a model that cannot be found.
        """

    @classmethod  # noqa: B027 - overriding it is optional
    def check_prompts(cls, prompts: Sequence[Prompt], **config: Any) -> None:
        """Checks that the oracle can be asked about prompts, without loading a model.

        Called before any engine starts.

        Args:
            prompts: All prompts of a split.
            **config: The constructor's arguments, checked.

        Raises:
            ConfigError: It cannot be asked about one.
        """

    @classmethod
    def response_room(cls, prompts: Sequence[Prompt], **config: Any) -> np.ndarray | None:
        """How long a response to each prompt may be, without loading a model.

        Prompts without room for the longest response are left out of a run.

        Args:
            prompts: N prompts.
            **config: The constructor's arguments.

        Returns:
            (N,) int64 in the oracle's own tokens, negative if the prompt alone is too long; None if
            texts of any length are read whole.
        """
        return None

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
            (N,) float64: the probability, in [0, 1], that the first is preferred; NaN skips a
            question: the oracle does not decide it. ``compare(p, a, b) + compare(p, b, a)`` is 1.

        Raises:
            Exception: The oracle cannot answer all of them: they are asked again, in smaller and
                smaller batches. A question that alone raises what would come again
                (:func:`text_duel.oracles.failures.is_final`) is withdrawn.
        """

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        """Scores responses, for oracles that have a scalar reward.

        Args:
            prompts: N prompts.
            responses: N responses.

        Returns:
            (N,) float64; differences are log-odds of winning. NaN: there is none.

        Raises:
            Exception: The oracle has no scores, or cannot score all of them.
        """
        raise UnanswerableError(f"oracle {self.name} has no scores")


class AsyncOracle(Oracle):
    """An oracle that is asked one question at a time, many at once.

    For what waits for others: a server, a queue, a person. Questions are awaited together in one
    event loop; whoever asks limits how many.
    """

    @abstractmethod
    async def answer(self, prompt: Prompt, first: str, second: str) -> Verdict:
        """Decides one duel.

        Args:
            prompt: The prompt.
            first: A response.
            second: Another response.

        Returns:
            The verdict. Without a ``choice`` of its own, an oracle that knows a probability p
            gives ``Verdict("first" if p >= 0.5 else "second", win_probability=p)``: the label is
            drawn from p by the environment's rule. ``Verdict("skip", reason=...)``: it does not
            decide.

        Raises:
            Exception: The oracle cannot answer: it is asked again, unless that would come again
                (:func:`text_duel.oracles.failures.is_final`).
        """

    @final
    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """The probabilities of :meth:`answer`; see :meth:`Oracle.compare`."""

        async def all_of_them() -> list[Verdict]:
            asked = zip(prompts, first, second, strict=True)
            return await asyncio.gather(*(self.answer(*duel) for duel in asked))

        return np.array([probability_of(verdict) for verdict in asyncio.run(all_of_them())])


def probability_of(verdict: Verdict) -> float:
    """The win probability that a verdict stands for; NaN for ``both_bad`` and ``skip``."""
    if verdict.win_probability is not None:
        return verdict.win_probability
    return {"first": 1.0, "second": 0.0, "tie": 0.5}.get(verdict.choice, float("nan"))


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
        first_score: (N,) float64, NaN if the oracle has no scores.
        second_score: Likewise.
    """

    win_probability: np.ndarray
    first_score: np.ndarray
    second_score: np.ndarray


@dataclass(frozen=True, slots=True)
class AnswersInPart:
    """What an oracle said about some of N duels.

    Attributes:
        answers: NaN where there is none.
        skipped: By place the duels that it does not decide, and what it gave.
        unanswerable: By place the duels of which it gave what no answer is, and what that was.
    """

    answers: Answers
    skipped: dict[int, str]
    unanswerable: dict[int, str]


def ask_oracle_in_part(
    oracle: Oracle, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
) -> AnswersInPart:
    """Asks an oracle about duels, and says which of them it did not answer.

    Args:
        oracle: The oracle.
        prompts: N prompts.
        first: N responses.
        second: N other responses.

    Raises:
        BrokenOracleError: It gave another number of answers than of questions, or a number that is
            no probability.
        OracleError: It raised; the cause is what it raised.
    """
    count = len(prompts)
    scores = np.full(2 * count, np.nan)
    try:
        if oracle.has_scores:
            scores = np.asarray(
                oracle.score([*prompts, *prompts], [*first, *second]), dtype=np.float64
            )
            check_shape(oracle, "score", scores, 2 * count)
        if isinstance(oracle, ScoringOracle):  # its compare() would score everything again
            answer = win_probability(scores[:count] - scores[count:])
        else:
            answer = np.asarray(oracle.compare(prompts, first, second), dtype=np.float64)
            check_shape(oracle, "compare", answer, count)
    except BrokenOracleError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise OracleError(
            f"oracle {oracle.name} could not answer {count} questions: "
            f"{type(error).__name__}: {reason}"
        ) from error
    skipped: dict[int, str] = {}
    unanswerable: dict[int, str] = {}
    for place, prompt in enumerate(prompts):
        said = f"oracle {oracle.name} answered {answer[place]} for prompt {prompt.id!r}"
        if not (0.0 <= answer[place] <= 1.0 or np.isnan(answer[place])):
            raise BrokenOracleError(f"{said}, expected a probability in [0, 1], or NaN to skip it")
        pair = (scores[place], scores[count + place]) if oracle.has_scores else ()
        for score in filter(np.isinf, pair):
            unanswerable[place] = (
                f"oracle {oracle.name} gave the score {score} for prompt {prompt.id!r}, "
                "expected a finite number"
            )
        if place not in unanswerable and np.isnan([answer[place], *pair]).any():
            of_pair = f" (scores {pair[0]} and {pair[1]})" if pair else ""
            skipped[place] = f"{said}{of_pair}"
    answers = Answers(answer, scores[:count], scores[count:])
    return AnswersInPart(answers, skipped, unanswerable)


def check_shape(oracle: Oracle, method: str, found: np.ndarray, count: int) -> None:
    """Raises BrokenOracleError unless a method gave one number for each of its questions."""
    if found.shape != (count,):
        raise BrokenOracleError(
            f"oracle {oracle.name}: {method}() gave shape {found.shape}, expected ({count},)"
        )


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
        OracleError: The oracle raised, skipped a question, or gave no probability or no finite
            score for one.
    """
    found = ask_oracle_in_part(oracle, prompts, first, second)
    for reason in (*found.unanswerable.values(), *found.skipped.values()):
        raise OracleError(f"{reason}: there is no label")
    return found.answers
