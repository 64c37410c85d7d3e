"""The sampling part of the Algorithm: prompts in, candidates with rewards out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from rllib_sea.duels.records import Candidate
from rllib_sea.duels.rounds import (
    HeldOutResponses,
    Proposal,
    ProposalTask,
    TokenizedPrompt,
)
from rllib_sea.env_runners.calls import EnvRunnerCalls
from rllib_sea.policy_update.publishing import PublishedPolicy, Publisher
from rllib_sea.preference_log.records import Question

# What one call encodes: it does not depend on how many env runners share the work.
ENCODED_PER_CALL = 256


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the env runners made of a round.

    Attributes:
        proposals: One per prompt, by position.
        sampler_gap: See :class:`rllib_sea.duels.rounds.ProposalShare`; the largest.
        seconds: Of the slowest env runner, by stage.
    """

    proposals: list[Proposal]
    sampler_gap: float
    seconds: dict[str, float]


class Sampling:
    """Deals work out to the env runners, each task with the weights that it is for.

    Args:
        runners: The env runners.
        num_shares: Into how many parts work is cut: one per env runner.
        policies: The versions of the policy.
        max_model_len: Longest prompt and response together, in tokens.
        from_reference: Whether candidates are sampled from the initial policy, too.
    """

    def __init__(
        self,
        runners: EnvRunnerCalls,
        num_shares: int,
        policies: Publisher,
        *,
        max_model_len: int,
        from_reference: bool,
    ) -> None:
        self._runners = runners
        self._num_shares = num_shares
        self._policies = policies
        self._max_model_len = max_model_len
        self._from_reference = from_reference
        self._erm_ref: Any = None

    def start(self) -> None:
        """Starts the engines."""
        call = {"max_model_len": self._max_model_len}
        self._runners.call("start", [call] * self._num_shares)

    def publish_reward_model(self, weights: Any) -> None:
        """Puts the ERM's weights where every env runner can fetch them."""
        self._erm_ref = ray.put(weights)

    def rehearse_sync(self) -> None:
        """Gives every engine other weights and takes them back, before a label is asked.

        What an engine keeps of its old weights hardly shows in its first audits, when the weights
        have hardly moved; by these it shows at once.

        Raises:
            RuntimeError: An engine does not sample from the weights that it is given.
        """
        # One after the other, and neither by a name: the object store need not hold both.
        for policy in (self._policies.rehearsal, self._policies.initial):
            self._runners.call("sync", [{"weights": self._weights(policy())}] * self._num_shares)

    def propose(
        self, round_index: int, prompts: Sequence[TokenizedPrompt], policy: PublishedPolicy
    ) -> Proposals:
        """Samples and scores candidates (Algorithm 2, line 3).

        Args:
            round_index: The round.
            prompts: Its prompts by position.
            policy: Who samples.
        """
        weights = self._weights(policy)
        calls = [
            {
                "task": ProposalTask(
                    round=round_index,
                    positions=tuple(int(i) for i in chunk),
                    prompts=tuple(prompts[i] for i in chunk),
                ),
                "weights": weights,
            }
            for chunk in self._shares(len(prompts))
        ]
        shares = self._runners.call("sample", calls)
        stages = shares[0].seconds if shares else ()
        return Proposals(
            proposals=[proposal for share in shares for proposal in share.proposals],
            sampler_gap=max((share.sampler_gap for share in shares), default=np.nan),
            seconds={stage: max(share.seconds[stage] for share in shares) for stage in stages},
        )

    def rescore(
        self, questions: Sequence[Question], policy: PublishedPolicy
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and rewards of logged responses, which the round did not sample."""
        call = {
            "prompts": [q.prompt_text for q in questions],
            "prompt_token_ids": [q.prompt_token_ids for q in questions],
            "responses": [(q.first, q.second) for q in questions],
            "weights": self._weights(policy),
        }
        (scored,) = self._runners.call("rescore", [call])
        return scored

    def encode(
        self,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        responses: Sequence[Sequence[Candidate]],
    ) -> np.ndarray:
        """(B, M, d) features of given responses."""
        starts = range(0, len(prompts), ENCODED_PER_CALL)
        calls = [
            {
                "prompts": prompts[i : i + ENCODED_PER_CALL],
                "prompt_token_ids": prompt_token_ids[i : i + ENCODED_PER_CALL],
                "responses": responses[i : i + ENCODED_PER_CALL],
            }
            for i in starts
        ]
        return np.concatenate(self._runners.call("encode", calls))

    def rewards(self, features: np.ndarray) -> np.ndarray:
        """(K, ...) rewards by all members of the ERM, as it is now, of features (..., d)."""
        call = {
            "features": features.reshape(-1, features.shape[-1]),
            "weights": {"erm_ref": self._erm_ref},
        }
        (rewards,) = self._runners.call("rewards", [call])
        return rewards.reshape(-1, *features.shape[:-1])

    def respond(
        self,
        prompts: Sequence[TokenizedPrompt],
        places: Sequence[int],
        policy: PublishedPolicy,
    ) -> list[tuple[Candidate, ...]]:
        """Greedy responses to held-out prompts, each with those that are sampled.

        Args:
            prompts: The prompts.
            places: Key their random draws.
            policy: Who answers.
        """
        weights = self._weights(policy)
        calls = [
            {
                "prompts": [prompts[i] for i in chunk],
                "places": [places[i] for i in chunk],
                "weights": weights,
            }
            for chunk in self._shares(len(prompts))
        ]
        return [response for part in self._runners.call("respond", calls) for response in part]

    def answer_held_out(
        self,
        prompts: Sequence[TokenizedPrompt],
        places: Sequence[int],
        policy: PublishedPolicy,
        round_index: int,
        num_sampled: int,
    ) -> list[HeldOutResponses]:
        """Responses to held-out prompts, for an evaluation.

        Args:
            prompts: The prompts.
            places: Key their random draws, with the round.
            policy: Who answers.
            round_index: The round.
            num_sampled: To so many of the prompts a response is also sampled.
        """
        weights = self._weights(policy)
        calls = [
            {
                "prompts": [prompts[i] for i in chunk],
                "places": [places[i] for i in chunk],
                "weights": weights,
                "round_index": round_index,
                "num_sampled": int((chunk < num_sampled).sum()),
            }
            for chunk in self._shares(len(prompts))
        ]
        parts = self._runners.call("answer_held_out", calls)
        return [responses for part in parts for responses in part]

    def _weights(self, policy: PublishedPolicy) -> dict[str, Any]:
        """What env runners load: references, fetched only if they are new.

        See :meth:`rllib_sea.env_runners.duel_env_runner.DuelEnvRunner.load`.
        """
        return {
            "max_model_len": self._max_model_len,
            "policy": policy,
            "initial": self._policies.initial() if self._from_reference else None,
            "erm_ref": self._erm_ref,
        }

    def _shares(self, count: int) -> list[np.ndarray]:
        """Deals ``count`` places out to the env runners."""
        num_shares = min(count, self._num_shares)
        return np.array_split(np.arange(count), num_shares) if count else []
