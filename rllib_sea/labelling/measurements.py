"""What an oracle is asked to measure: it is not waited for as it is for labels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from rllib_sea.labelling.asking import Asking, Comparison, OracleAwayError
from text_duel.oracles import probability_of
from text_duel.prompts import Prompt
from text_duel.verdicts import Verdict


class Measurements:
    """Compares and scores by an oracle.

    Args:
        asking: Puts questions to it.
        warn: Told of what has no value.
    """

    def __init__(self, asking: Asking, warn: Callable[[str], None]) -> None:
        self._asking = asking
        self._warn = warn
        # Asked only to be measured, an oracle that has failed so is not waited for again.
        self._failed = False

    async def compare(self, comparisons: Sequence[Comparison]) -> list[float]:
        """Win probabilities of the first responses; NaN if the oracle skips the question.

        Raises:
            OracleAwayError: The oracle does not answer.
        """
        found = np.full(len(comparisons), np.nan)

        def keep(verdicts: Mapping[int, Verdict]) -> None:
            for place, verdict in verdicts.items():
                found[place] = probability_of(verdict)

        async with self._measuring(len(comparisons)) as (retries, lost):
            lost |= await self._asking.ask(comparisons, keep, retries=retries)
        return found.tolist()

    async def score(self, responses: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The oracle's scores of responses; NaN where it has none.

        Raises:
            OracleAwayError: The oracle does not answer.
        """
        prompts, texts = [prompt for prompt, _ in responses], [text for _, text in responses]
        async with self._measuring(len(responses)) as (retries, lost):
            scores, refused = await self._asking.score(prompts, texts, retries=retries)
            lost |= refused
        return scores

    @asynccontextmanager
    async def _measuring(self, num: int) -> AsyncIterator[tuple[int | None, dict[int, str]]]:
        """Yields how often to ask again, and what takes the questions that have no answer.

        A run does not end for want of a measurement: nor does it wait for one for minutes in every
        round. Once all attempts have failed there is one, until an answer comes again.
        """
        lost: dict[int, str] = {}
        try:
            yield (0 if self._failed else None), lost
        except OracleAwayError:
            self._failed = True
            raise
        self._failed = False
        if lost:
            reason = next(iter(lost.values()))
            self._warn(f"{len(lost)} of {num} measurements have no value: {reason}")
