"""DuelEnvRunner: prompts -> candidates -> rewards."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.annotations import override

from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.duels.rounds import (
    HeldOutResponses,
    Proposal,
    ProposalShare,
    ProposalTask,
    TokenizedPrompt,
)
from rllib_sea.env_runners.scoring import Scorer
from rllib_sea.env_runners.wrappers import returns_failures, timed
from rllib_sea.policy.module import VLLMPolicyModule
from rllib_sea.randomness import Stream, integer_seeds
from rllib_sea.reward_model.encoder import CandidateEncoder, make_encoder

if TYPE_CHECKING:
    from rllib_sea.config import SEAConfig
    from rllib_sea.policy_update.publishing import PublishedPolicy


class DuelEnvRunner(EnvRunner):
    """Samples candidates and scores them.

    It holds the policy's engine, the ERM for scoring, and the environment, which shows the prompts.
    The engine starts with :meth:`start`, not in the constructor: what goes wrong there is
    returned as data and reaches the user as one message.
    """

    config: SEAConfig

    def __init__(self, *, config: SEAConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        torch.set_num_threads(config.threads_per_env_runner)
        self._policy_name: str | None = None
        self._sampler_gap = math.nan
        self._max_model_len = 0
        self.make_env()

    # -- Set-up -----------------------------------------------------------------------

    @override(EnvRunner)
    def make_env(self) -> None:
        config = self.config
        self.env: gym.Env[Any, Any] = gym.make(config.env, **config.env_config)

    @cached_property
    def encoder(self) -> CandidateEncoder:
        """The ERM's frozen encoder."""
        config = self.config
        return make_encoder(
            config.erm_encoder, config.policy_model_path(), sees_end=config.erm_sees_end
        )

    @cached_property
    def scorer(self) -> Scorer:
        """The ERM, for scoring candidates."""
        modules = self.config.get_multi_rl_module_spec(spaces=self.get_spaces()).build()
        return Scorer(self.encoder, modules[DEFAULT_MODULE_ID])

    @cached_property
    def module(self) -> VLLMPolicyModule:
        """The policy, its engine started: what :meth:`sample` explores by."""
        spec = self.config.policy_module_spec(self._max_model_len)
        spec.observation_space, spec.action_space = self.get_spaces()[INPUT_ENV_SPACES]
        module = spec.build()
        module.start()
        return module

    @returns_failures
    def start(self, *, max_model_len: int) -> None:
        """Starts the engine and loads the encoder.

        Args:
            max_model_len: Longest prompt and response together, in tokens.
        """
        self._max_model_len = max_model_len
        _ = self.module, self.scorer

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """The duel's spaces, and those of the ERM: features in, a reward out."""
        features = gym.spaces.Box(-np.inf, np.inf, (self.encoder.dim,), np.float32)
        reward = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        return {
            INPUT_ENV_SPACES: (
                self.env.observation_space,
                self.env.action_space,
            ),
            DEFAULT_MODULE_ID: (features, reward),
        }

    # -- One round --------------------------------------------------------------------

    @override(EnvRunner)
    @returns_failures
    def sample(self, *, task: ProposalTask, weights: Mapping[str, Any]) -> ProposalShare:
        """Samples M candidates per prompt and scores them (Algorithm 2, line 3).

        Args:
            task: The share of the round.
            weights: What :meth:`load` takes.
        """
        config = self.config
        seconds: dict[str, float] = {}
        with timed(seconds, "sync"):
            self.load(weights)

        with timed(seconds, "generate"):
            prompts = task.prompts
            token_ids = [prompt.token_ids for prompt in prompts]
            num_from_reference = config.num_reference_candidates
            version = self.module.policy_version
            seeds = integer_seeds(config.seed, task.round, task.positions, Stream.SAMPLING)
            num_from_policy = config.num_candidates - num_from_reference
            candidates = self._sample(token_ids, num_from_policy, seeds)
            if num_from_reference:
                self._load_policy(weights["initial"])
                seeds = integer_seeds(
                    config.seed, task.round, task.positions, Stream.REFERENCE_SAMPLING
                )
                others = self._sample(token_ids, num_from_reference, seeds)
                candidates = [[*ours, *o] for ours, o in zip(candidates, others, strict=True)]

        with timed(seconds, "encode"):
            scored = self.scorer.score([p.text for p in prompts], token_ids, candidates)
            self.module.rest()

        return ProposalShare(
            proposals=[
                Proposal(
                    position=task.positions[i],
                    prompt_id=prompt.id,
                    prompt_text=prompt.text,
                    prompt_token_ids=prompt.token_ids,
                    candidates=tuple(candidates[i]),
                    num_from_reference=num_from_reference,
                    features=scored[i][0],
                    rewards=scored[i][1],
                    policy_version=version,
                )
                for i, prompt in enumerate(prompts)
            ],
            seconds=seconds,
            sampler_gap=self._sampler_gap,
        )

    def _sample(
        self,
        prompt_token_ids: Sequence[Sequence[int]],
        num_responses: int,
        seeds: Sequence[int],
        sampling: SamplingConfig | None = None,
    ) -> list[list[Candidate]]:
        batch: dict[str, Any] = {
            "prompt_token_ids": prompt_token_ids,
            "num_responses": num_responses,
            "seeds": seeds,
        }
        if sampling is not None:
            batch["sampling"] = sampling
        return self.module.forward_exploration(batch)["candidates"]

    @returns_failures
    def rewards(self, *, features: np.ndarray, weights: Mapping[str, Any]) -> np.ndarray:
        """(K, N) rewards by all members of features (N, d).

        Args:
            features: The features.
            weights: Of what :meth:`load` takes, ``erm_ref``.
        """
        self.scorer.load(weights["erm_ref"])
        return self.scorer.rewards(features)

    @returns_failures
    def rescore(
        self,
        *,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        responses: Sequence[Sequence[Candidate]],
        weights: Mapping[str, Any],
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and rewards of given responses, for duels from the preference log."""
        self.load(weights)
        return self.scorer.score(prompts, prompt_token_ids, responses)

    @returns_failures
    def encode(
        self,
        *,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        responses: Sequence[Sequence[Candidate]],
    ) -> np.ndarray:
        """Features of given responses to any prompts, the environment's or not.

        Args:
            prompts: B prompts.
            prompt_token_ids: The same as tokens.
            responses: B lists of M responses.

        Returns:
            (B, M, d) float32. No weights are needed: the encoder is frozen.
        """
        return self.encoder.encode(prompts, prompt_token_ids, responses)

    # -- Evaluation -------------------------------------------------------------------

    @returns_failures
    def respond(
        self,
        *,
        prompts: Sequence[TokenizedPrompt],
        places: Sequence[int],
        weights: Mapping[str, Any],
    ) -> list[tuple[Candidate, ...]]:
        """The policy's greedy responses to held-out prompts, each with those that it samples.

        Args:
            prompts: Held-out prompts.
            places: Key their random draws.
            weights: What :meth:`load` takes.
        """
        self.load(weights)
        token_ids = [prompt.token_ids for prompt in prompts]
        greedy, samples = self._greedy(token_ids), self._samples(token_ids, places)
        self.module.rest()
        return [(first, *others) for first, others in zip(greedy, samples, strict=True)]

    @returns_failures
    def answer_held_out(
        self,
        *,
        prompts: Sequence[TokenizedPrompt],
        places: Sequence[int],
        weights: Mapping[str, Any],
        round_index: int,
        num_sampled: int,
    ) -> list[HeldOutResponses]:
        """The policy's responses to held-out prompts, for an evaluation.

        Args:
            prompts: Held-out prompts.
            places: Key their random draws, with the round.
            weights: What :meth:`load` takes.
            round_index: The round.
            num_sampled: To so many of the prompts a response is also sampled, for the KL
                divergence.
        """
        self.load(weights)
        config = self.config
        token_ids = [prompt.token_ids for prompt in prompts]
        greedy = self._greedy(token_ids)
        best: Sequence[Candidate | None] = [None] * len(prompts)
        if config.evaluation_best_of_n is not None:
            seeds = integer_seeds(config.seed, round_index, places, Stream.BEST_OF_N)
            candidates = self._sample(token_ids, config.evaluation_best_of_n, seeds)
            scored = self.scorer.score([prompt.text for prompt in prompts], token_ids, candidates)
            favourites = [int(rewards.mean(axis=0).argmax()) for _, rewards in scored]
            best = [row[one] for row, one in zip(candidates, favourites, strict=True)]
        sampled: Sequence[tuple[int, ...] | None] = [None] * len(prompts)
        if num_sampled:
            plain = SamplingConfig(config.max_new_tokens, temperature=1.0, top_p=1.0)
            seeds = integer_seeds(
                config.seed, round_index, places[:num_sampled], Stream.KL_SAMPLING
            )
            rows = self._sample(token_ids[:num_sampled], 1, seeds, plain)
            sampled = [*(row[0].token_ids for row in rows), *sampled[num_sampled:]]
        samples = self._samples(token_ids, places)
        self.module.rest()
        answers = zip(token_ids, greedy, best, sampled, samples, strict=True)
        return [HeldOutResponses(*answer) for answer in answers]

    def _samples(
        self, prompt_token_ids: Sequence[Sequence[int]], places: Sequence[int]
    ) -> list[tuple[Candidate, ...]]:
        """Those of ``evaluation_samples``.

        In every evaluation, and by the initial policy, with the same seeds: what differs is the
        policy.
        """
        config = self.config
        if not config.evaluation_samples:
            return [()] * len(prompt_token_ids)
        seeds = integer_seeds(config.seed, 0, places, Stream.EVALUATION_SAMPLING)
        return [
            tuple(row) for row in self._sample(prompt_token_ids, config.evaluation_samples, seeds)
        ]

    def _greedy(self, prompt_token_ids: Sequence[Sequence[int]]) -> list[Candidate]:
        output = self.module.forward_inference({"prompt_token_ids": prompt_token_ids})
        return [row[0] for row in output["candidates"]]

    # -- Weights and state ------------------------------------------------------------

    @returns_failures
    def sync(self, *, weights: Mapping[str, Any]) -> None:
        """:meth:`load` by itself, to try an engine before it is needed."""
        self.load(weights)
        self.module.rest()

    def load(self, weights: Mapping[str, Any]) -> None:
        """Brings policy and ERM to the given versions; does nothing if they are there.

        Every task carries references to the weights it wants, so that a runner that was
        restarted, or that missed a round, is never stale. Each time the engine takes weights in
        it is audited.

        Args:
            weights: ``max_model_len`` of :meth:`start`; the ``policy``; ``initial``, the initial
                one (None unless candidates are sampled from it); ``erm_ref``, the ERM's weights.

        Raises:
            SamplerGapError: The engine does not sample from the weights that it was given.
        """
        self._max_model_len = weights["max_model_len"]  # a runner that was restarted has none
        self._load_policy(weights["policy"])
        self.scorer.load(weights["erm_ref"])

    def _load_policy(self, policy: PublishedPolicy) -> None:
        if self._policy_name == policy.name:
            return
        self._policy_name = None  # a sync that fails leaves nothing to rely on
        if policy.version or policy.place is not None:
            self._sampler_gap = self.module.set_weights(policy.fetch(), policy.version)
        # Not the policy, which would hold the old weights in the object store.
        self._policy_name = policy.name

    @override(EnvRunner)
    def get_metrics(self) -> dict[str, Any]:
        return self.metrics.reduce()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A runner keeps no state: tasks carry all there is."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to do: RLlib broadcasts weights here, tasks bring their own."""

    @override(EnvRunner)
    def assert_healthy(self) -> None:
        assert self.env is not None

    @override(EnvRunner)
    def stop(self) -> None:
        if "module" in self.__dict__:
            self.module.close()
        self.env.close()

    def process_id(self) -> int:
        """The process that runs this, for fault tests."""
        return os.getpid()
