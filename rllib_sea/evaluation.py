"""Evaluation on held-out prompts: greedy win rates and oracle scores.

Questions asked here are no queries: they are counted apart and nothing is learned from
the answers.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_sea.duels.records import Candidate
from rllib_sea.duels.rounds import EvaluatedPrompt, Outcome, ReferenceFit, TokenizedPrompt
from rllib_sea.env_runners.sampling import Sampling
from rllib_sea.labelling.asking import OracleAwayError
from rllib_sea.labelling.measuring import Measuring
from rllib_sea.policy.prompt_sets import PromptSet
from rllib_sea.policy_update.part import PolicyUpdate
from rllib_sea.policy_update.scores import PromptResponses
from rllib_sea.response_texts import copied_share, repeated_share
from rllib_sea.reward_model.forecast import MAX_PROMPTS
from rllib_sea.statistics import hard_win_rate, is_won, mean_estimate

if TYPE_CHECKING:
    from rllib_sea.sea import SEA


class HeldOut:
    """The policy's responses to held-out prompts, compared with those of its start.

    Args:
        sampling: Who responds.
        measuring: Who compares.
        policy: Whose versions.
        prompts: The held-out prompts.
        num_sampled: Prompts on which the KL divergence from the reference policy is estimated, and
            the perplexity of their references.
        num_samples: Sampled responses per prompt that are compared beside the greedy one.
        warn: Told of what the user should know.
    """

    def __init__(
        self,
        sampling: Sampling,
        measuring: Measuring,
        policy: PolicyUpdate,
        prompts: PromptSet,
        num_sampled: int,
        num_samples: int,
        warn: Callable[[str], None],
    ) -> None:
        self._warn = warn
        self._num_samples = num_samples
        self._sampling = sampling
        self._measuring = measuring
        self._policy = policy
        self._prompts = prompts
        # A policy that stays has no divergence.
        self._num_sampled = num_sampled if policy.is_trained else 0
        # By the prompts' texts: greedy, then sampled.
        self._baseline: dict[str, tuple[Candidate, ...]] = {}

    def baseline(self) -> list[tuple[Candidate, ...]]:
        """Responses of the policy before its first update: the greedy one, then sampled ones.

        A checkpoint has them, each with its prompt; of prompts that it does not know they are made.
        """
        texts = [prompt.text for prompt in self._prompts.prompts]
        num_unknown = sum(text not in self._baseline for text in texts)
        if num_unknown and self._baseline:
            self._warn(
                f"{num_unknown} of the {len(texts)} held-out prompts are new or edited since "
                "the checkpoint: the initial policy's responses to them are made now"
            )
        wanted = 1 + self._num_samples
        missing = [i for i, text in enumerate(texts) if len(self._baseline.get(text, ())) < wanted]
        if missing:
            prompts, places = self._prompts.tokenized(missing), self._prompts.places
            made = self._sampling.respond(
                prompts, [places[i] for i in missing], self._policy.weights.initial()
            )
            self._baseline |= zip([texts[i] for i in missing], made, strict=True)
        return [self._baseline[text] for text in texts]

    def evaluate(self, round_index: int) -> list[EvaluatedPrompt]:
        """The current policy's responses, compared.

        Args:
            round_index: Keys the random draws.

        Raises:
            OracleAwayError: The oracle does not answer.
        """
        baseline, current = self.baseline(), self._policy.weights.current()
        tokenized = self._prompts.tokenized(range(len(self._prompts)))
        responses = self._sampling.answer_held_out(
            tokenized, self._prompts.places, current, round_index, self._num_sampled
        )
        evaluated = self._measuring.held_out(self._prompts.prompts, responses, baseline)
        pairs = [(new.greedy, old[0]) for new, old in zip(responses, baseline, strict=True)]
        for i, pair in enumerate(pairs):
            evaluated[i] = dataclasses.replace(evaluated[i], pair=pair)
        if self._policy.is_trained:
            for i, features in enumerate(self._features(tokenized, pairs)):
                evaluated[i] = dataclasses.replace(evaluated[i], features=features)
        return self._scored(evaluated)

    def _scored(self, evaluated: list[EvaluatedPrompt]) -> list[EvaluatedPrompt]:
        """With what the policy thinks of its sampled responses and of their prompts' references."""
        measured = range(min(self._num_sampled, len(evaluated)))
        references = self._prompts.references(measured)
        asked: dict[int, PromptResponses] = {}
        for i in measured:
            # An engine may give a response without a token: there is nothing to compare.
            responses = tuple(filter(None, (evaluated[i].sampled_token_ids, references[i])))
            if responses:
                asked[i] = PromptResponses(evaluated[i].prompt_token_ids, responses)
        if not asked:
            return evaluated
        scores = self._policy.trainer.score(list(asked.values()))
        place = 0
        for i in asked:
            if evaluated[i].sampled_token_ids:
                evaluated[i] = dataclasses.replace(evaluated[i], kl=float(scores.kl[place]))
                place += 1
            if references[i]:
                fit = ReferenceFit(
                    num_tokens=len(references[i]),
                    log_prob=float(scores.log_probs[place]),
                    initial_log_prob=float(scores.reference_log_probs[place]),
                )
                evaluated[i] = dataclasses.replace(evaluated[i], reference_fit=fit)
                place += 1
        return evaluated

    def _features(
        self,
        prompts: Sequence[TokenizedPrompt],
        pairs: Sequence[tuple[Candidate, Candidate]],
    ) -> np.ndarray:
        """(P, 2, d) of pairs of responses to the first prompts."""
        seen = prompts[:MAX_PROMPTS]
        return self._sampling.encode(
            [prompt.text for prompt in seen],
            [prompt.token_ids for prompt in seen],
            pairs[:MAX_PROMPTS],
        )

    def get_state(self) -> dict[str, tuple[Candidate, ...]]:
        """The initial policy's responses, by the texts of their prompts; empty before the first."""
        return dict(self._baseline)

    def set_state(self, state: Mapping[str, tuple[Candidate, ...] | Candidate]) -> None:
        """Takes over :meth:`get_state`, also of checkpoints that have greedy responses alone."""
        self._baseline = {
            text: made if isinstance(made, tuple) else (made,) for text, made in state.items()
        }


def evaluate(algorithm: SEA, _: Any = None) -> tuple[dict[str, Any], int, int]:
    """RLlib's ``custom_evaluation_function``: evaluates the current policy.

    Args:
        algorithm: The Algorithm, whose env runners answer.

    Returns:
        The results, and the number of prompts twice (RLlib's env and agent steps); none if the
        oracle does not answer, for want of which no run ends.
    """
    start = time.perf_counter()
    try:
        evaluated = algorithm.evaluate_held_out()
    except OracleAwayError as error:
        algorithm.record_no_evaluation(error)
        return {}, 0, 0
    results = summarise(evaluated) | {"seconds": time.perf_counter() - start}
    algorithm.record_evaluation(evaluated, results)
    logger = MetricsLogger(root=False)
    logger.log_dict(results, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=EVALUATION_RESULTS)
    return results, len(evaluated), len(evaluated)


def summarise(evaluated: Sequence[EvaluatedPrompt]) -> dict[str, float]:
    """The metrics of an evaluation; see docs/metrics.md for their meaning.

    Args:
        evaluated: The held-out prompts, at least one.

    Returns:
        Flat metrics. Those against references and of scores stand there only if the
        prompts have references and the oracle has scores; those of the best of N and of the
        KL divergence only if they were asked for.
    """
    results: dict[str, float] = {"num_prompts": float(len(evaluated))}
    results |= _outcomes([prompt.greedy for prompt in evaluated])
    initial_scores = [p.initial_score for p in evaluated if not math.isnan(p.initial_score)]
    if initial_scores:
        results |= mean_estimate(initial_scores).named("initial_mean_score")
    best = [prompt.best_of_n for prompt in evaluated if prompt.best_of_n is not None]
    if best:
        results |= {f"best_of_n_{name}": value for name, value in _outcomes(best).items()}
    samples = [prompt.samples for prompt in evaluated if prompt.samples]
    if samples:
        results |= {f"sampled_{name}": value for name, value in _of_samples(samples).items()}
    kl = [prompt.kl for prompt in evaluated if not math.isnan(prompt.kl)]
    if kl:
        results |= mean_estimate(kl).named("kl")
    return results | _capability(evaluated)


def _capability(evaluated: Sequence[EvaluatedPrompt]) -> dict[str, float]:
    """What a win rate alone may hide, beside the same of the initial policy."""
    prompts = [prompt.prompt_text for prompt in evaluated]
    texts = {
        "": [prompt.greedy.response for prompt in evaluated],
        "initial_": [prompt.initial_response for prompt in evaluated],
    }
    results = {}
    for whose, responses in texts.items():
        copied = [copied_share(*pair) for pair in zip(responses, prompts, strict=True)]
        results[f"{whose}repeated_share"] = float(np.mean(list(map(repeated_share, responses))))
        results[f"{whose}copied_share"] = float(np.mean(copied))
    pairs = [prompt.pair for prompt in evaluated if prompt.pair is not None]
    if pairs:
        finished = [initial.finish_reason == "stop" for _, initial in pairs]
        results["initial_finished_share"] = float(np.mean(finished))
    fits = [prompt.reference_fit for prompt in evaluated if prompt.reference_fit is not None]
    if fits:
        num_tokens = sum(fit.num_tokens for fit in fits)
        for whose, log_probs in (
            ("", [fit.log_prob for fit in fits]),
            ("initial_", [fit.initial_log_prob for fit in fits]),
        ):
            results[f"{whose}reference_perplexity"] = float(np.exp(-sum(log_probs) / num_tokens))
    return results


def _of_samples(samples: Sequence[Sequence[Outcome]]) -> dict[str, float]:
    """Of sampled responses: means over prompts of each prompt's mean, which are independent."""

    def by_prompt(value_of: Callable[[Outcome], float]) -> list[float]:
        rows = [[value_of(outcome) for outcome in row] for row in samples]
        known = [[value for value in row if not math.isnan(value)] for row in rows]
        return [float(np.mean(row)) for row in known if row]

    results: dict[str, float] = {}
    for name, value_of in (
        ("win_rate_vs_initial", lambda outcome: is_won(outcome.win_vs_initial)),
        ("win_rate_vs_initial_soft", lambda outcome: outcome.win_vs_initial),
        ("mean_score", lambda outcome: outcome.score),
    ):
        values = by_prompt(value_of)
        if values:
            results |= mean_estimate(values).named(name)
    results["response_length"] = float(np.mean(by_prompt(lambda outcome: outcome.num_tokens)))
    results["finished_share"] = float(np.mean(by_prompt(lambda outcome: outcome.finished)))
    return results


def _outcomes(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Win rates, scores and lengths of one response per prompt."""
    results: dict[str, float] = {}
    for other in ("initial", "reference"):
        wins = [getattr(outcome, f"win_vs_{other}") for outcome in outcomes]
        wins = [p for p in wins if not math.isnan(p)]
        if wins:
            results |= hard_win_rate(wins).named(f"win_rate_vs_{other}")
            results |= mean_estimate(wins).named(f"win_rate_vs_{other}_soft")
    scores = [outcome.score for outcome in outcomes if not math.isnan(outcome.score)]
    if scores:
        results |= mean_estimate(scores).named("mean_score")
    results["response_length"] = float(np.mean([outcome.num_tokens for outcome in outcomes]))
    results["finished_share"] = float(np.mean([outcome.finished for outcome in outcomes]))
    return results
