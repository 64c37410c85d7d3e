"""What the oracle is asked to measure: nothing is learned from it, and it is counted apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_sea.duels.records import Candidate
from rllib_sea.duels.rounds import EvaluatedPrompt, HeldOutResponses, Measurement, Outcome
from rllib_sea.duels.selection import SelectedDuel
from rllib_sea.labelling.asking import Comparison
from rllib_sea.labelling.handle import LabellerHandle
from rllib_sea.labelling.labeller_settings import OracleIdentity
from text_duel.prompts import Prompt


class Measuring:
    """Compares and scores by the oracle.

    Args:
        labeller: Whom to ask.
        oracle: Who that is.
    """

    def __init__(self, labeller: LabellerHandle, oracle: OracleIdentity) -> None:
        self._labeller = labeller
        self._oracle = oracle

    def round(
        self,
        duels: Sequence[SelectedDuel],
        prompts: Sequence[Prompt],
        *,
        online_wins: bool,
        candidate_scores: bool,
    ) -> Measurement:
        """Measures a round.

        Args:
            duels: Its duels.
            prompts: Their prompts.
            online_wins: Whether duelled responses of real duels are compared with the references.
            candidate_scores: Whether all candidates are scored.

        Raises:
            OracleAwayError: The oracle does not answer.
        """
        duelled = [
            (prompt, response.text)
            for duel, prompt in zip(duels, prompts, strict=True)
            for response in duel.responses
            if online_wins and not duel.synthetic
        ]
        wins, num_asked = self._win_probabilities(
            [prompt for prompt, _ in duelled],
            [text for _, text in duelled],
            [prompt.reference for prompt, _ in duelled],
        )
        pool = [
            (prompt, candidate.text)
            for duel, prompt in zip(duels, prompts, strict=True)
            for candidate in duel.proposal.candidates
            if candidate_scores
        ]
        scores = np.array(self._labeller.call("score", pool) if pool else [])
        ends = np.cumsum([len(duel.proposal.candidates) for duel in duels])[:-1]
        return Measurement(
            online_wins=wins.tolist(),
            pool_scores=np.split(scores, ends) if pool else [],
            num_questions=int(num_asked.sum()) + len(scores),
        )

    def held_out(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[HeldOutResponses],
        baseline: Sequence[Sequence[Candidate]],
    ) -> list[EvaluatedPrompt]:
        """Compares a policy's responses with the initial policy's and with the references.

        Args:
            prompts: Held-out prompts.
            responses: The policy's.
            baseline: The initial policy's: the greedy response, then the sampled ones.

        Raises:
            OracleAwayError: The oracle does not answer.
        """
        references = [prompt.reference for prompt in prompts]
        initial = [greedy.text for greedy, *_ in baseline]
        greedy = self._outcomes(prompts, [r.greedy for r in responses], initial, references)
        best: Sequence[Outcome | None] = [None] * len(prompts)
        chosen = [r.best_of_n for r in responses if r.best_of_n is not None]
        if chosen:
            best = self._outcomes(prompts, chosen, initial, references)
        samples = self._samples(prompts, responses, baseline)
        initial_scores = self._scores(prompts, initial)
        return [
            EvaluatedPrompt(
                prompt_id=prompt.id,
                prompt_text=prompt.text,
                prompt_token_ids=responses[i].prompt_token_ids,
                reference=prompt.reference,
                initial_response=initial[i],
                initial_score=float(initial_scores[i]),
                greedy=greedy[i],
                best_of_n=best[i],
                sampled_token_ids=responses[i].sampled_token_ids,
                samples=samples[i],
            )
            for i, prompt in enumerate(prompts)
        ]

    def take_num_cut(self) -> int:
        """Of how many texts the oracle has read the beginning only, since the last call."""
        return self._labeller.call("take_num_cut")

    def _samples(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[HeldOutResponses],
        baseline: Sequence[Sequence[Candidate]],
    ) -> list[tuple[Outcome, ...]]:
        """Sampled responses, each compared with the initial policy's of the same seed."""
        # An engine may give fewer than it was asked for.
        rows = [
            (i, ours, theirs.text)
            for i, (_, *initial) in enumerate(baseline)
            for ours, theirs in zip(responses[i].samples, initial, strict=False)
        ]
        found: list[tuple[Outcome, ...]] = [()] * len(prompts)
        if not rows:
            return found  # without a call: it would say that the oracle answers
        outcomes = self._outcomes(
            [prompts[i] for i, _, _ in rows],
            [ours for _, ours, _ in rows],
            [theirs for _, _, theirs in rows],
            [None] * len(rows),
        )
        for (i, _, _), outcome in zip(rows, outcomes, strict=True):
            found[i] += (outcome,)
        return found

    def _outcomes(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Candidate],
        initial: Sequence[str],
        references: Sequence[str | None],
    ) -> list[Outcome]:
        texts = [response.text for response in responses]
        against_initial, asked_initial = self._win_probabilities(prompts, texts, initial)
        against_reference, asked_reference = self._win_probabilities(prompts, texts, references)
        scores = self._scores(prompts, texts)
        return [
            Outcome(
                response=response.text,
                num_tokens=len(response.token_ids),
                finished=response.finish_reason == "stop",
                win_vs_initial=float(against_initial[i]),
                win_vs_reference=float(against_reference[i]),
                score=float(scores[i]),
                num_questions=int(asked_initial[i]) + int(asked_reference[i]),
            )
            for i, response in enumerate(responses)
        ]

    def _scores(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
        """(N,) scores; NaN if the oracle has none."""
        if not self._oracle.has_scores:
            return np.full(len(prompts), np.nan)
        return np.array(self._labeller.call("score", list(zip(prompts, texts, strict=True))))

    def _win_probabilities(
        self, prompts: Sequence[Prompt], texts: Sequence[str], others: Sequence[str | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N,) win probabilities, and (N,) for which of them the oracle was asked.

        Of equal texts (0.5) and without another one (NaN) it is not asked. People are not asked
        here (:meth:`rllib_sea.labelling.labelling.Labelling.judge` does): then all are NaN.
        """
        result = np.full(len(prompts), np.nan)
        if self._oracle.asks_people:
            return result, np.zeros(len(prompts), dtype=bool)
        result[[text == other for text, other in zip(texts, others, strict=True)]] = 0.5
        comparisons = {
            i: Comparison(prompt, text, other)
            for i, (prompt, text, other) in enumerate(zip(prompts, texts, others, strict=True))
            if other is not None and other != text
        }
        asked = np.zeros(len(prompts), dtype=bool)
        if comparisons:
            rows = list(comparisons)
            asked[rows] = True
            result[rows] = self._labeller.call("compare", list(comparisons.values()))
        return result, asked
