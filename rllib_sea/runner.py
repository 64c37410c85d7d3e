"""DuelEnvRunner: prompts -> candidates -> selection -> labels, for one share of a round."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.annotations import override

import text_duel
from rllib_sea.duels.records import Candidate, Duel
from rllib_sea.duels.rounds import EvaluatedResponse, Failure, RoundShare, RoundTask
from rllib_sea.exploration import STRATEGIES, text_identities
from rllib_sea.policy.module import VLLMPolicyModule
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.preference_learning.mixing import mix
from rllib_sea.randomness import Stream, generators, integer_seeds
from rllib_sea.reward_model.encoder import FeatureEncoder, make_encoder
from rllib_sea.reward_model.module import FEATURES, REWARDS
from text_duel import Prompt

if TYPE_CHECKING:
    from rllib_sea.config import SEAConfig


class DuelEnvRunner(EnvRunner):
    """Samples labelled duels; holds the policy's engine, the ERM and the environment.

    The engine starts with :meth:`start`, not in the constructor: what goes wrong there is
    returned as data and reaches the user as one message.
    """

    config: SEAConfig

    def __init__(self, *, config: SEAConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        torch.set_num_threads(config.threads_per_env_runner)
        self._erm_version = -1
        self.make_env()

    # -- Set-up -----------------------------------------------------------------------

    @override(EnvRunner)
    def make_env(self) -> None:
        config = self.config
        share = -(-config.prompts_per_round // max(1, config.num_env_runners))
        self.env = gym.make_vec(config.env, num_envs=share, **config.env_config)

    @cached_property
    def prompts(self) -> Sequence[Prompt]:
        """The training prompts."""
        return self.env.unwrapped.prompts

    @cached_property
    def evaluation_prompts(self) -> Sequence[Prompt]:
        """The held-out prompts."""
        return text_duel.load_prompts(
            **text_duel.prompt_options(self.config.evaluation_env_config())
        )

    @cached_property
    def encoder(self) -> FeatureEncoder:
        """The ERM's frozen encoder."""
        return make_encoder(self.config.erm_encoder)

    @cached_property
    def erm(self) -> RLModule:
        """The ERM, for scoring candidates."""
        spaces = self.get_spaces()
        return self.config.get_multi_rl_module_spec(spaces=spaces).build()[DEFAULT_MODULE_ID]

    @cached_property
    def tokenizer(self) -> PromptTokenizer:
        """The policy's tokenizer."""
        return PromptTokenizer(self.config.policy_model_path(), chat=self.config.chat_template)

    @cached_property
    def policy(self) -> VLLMPolicyModule:
        """The policy, its engine started."""
        longest = self.config.max_new_tokens
        texts = [prompt.text for prompt in [*self.prompts, *self.evaluation_prompts]]
        prompt_lengths = self.tokenizer.fitting_lengths(texts, longest).values()
        module = VLLMPolicyModule(
            model_config=self.config.policy_module_config(max(prompt_lengths) + longest)
        )
        module.start()
        return module

    def start(self) -> Failure | None:
        """Starts the engine and loads the encoder and the oracle.

        Returns:
            None, or what went wrong.
        """
        try:
            _ = self.policy, self.erm, self.evaluation_prompts
        except Exception as error:
            return _failure(error)
        return None

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """The duel's spaces, and those of the ERM: features in, a reward out."""
        features = gym.spaces.Box(-np.inf, np.inf, (self.encoder.dim,), np.float32)
        reward = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        return {
            INPUT_ENV_SPACES: (
                self.env.single_observation_space,
                self.env.single_action_space,
            ),
            DEFAULT_MODULE_ID: (features, reward),
        }

    # -- One round --------------------------------------------------------------------

    @override(EnvRunner)
    def sample(self, *, task: RoundTask, weights: Mapping[str, Any]) -> RoundShare | Failure:
        """Samples, selects and labels one share of a round (Algorithm 2, lines 2 to 6).

        Args:
            task: The share.
            weights: What :meth:`load` takes.

        Returns:
            The labelled duels, or an expected failure.
        """
        try:
            return self._sample(task, weights)
        except Exception as error:
            return _failure(error)

    def _sample(self, task: RoundTask, weights: Mapping[str, Any]) -> RoundShare:
        share = RoundShare(duels=[], positions=task.positions)
        seed = self.config.seed
        with _timed(share.seconds, "sync"):
            self.load(weights)

        with _timed(share.seconds, "generate"):
            prompts = [self.prompts[i] for i in task.prompt_indices]
            prompt_token_ids = self.tokenizer.encode_all([p.text for p in prompts])
            output = self.policy.forward_exploration(
                {
                    "prompt_token_ids": prompt_token_ids,
                    "seeds": integer_seeds(seed, task.round, task.positions, Stream.SAMPLING),
                }
            )
            candidates: list[list[Candidate]] = output["candidates"]

        with _timed(share.seconds, "encode"):
            features, rewards = self.score(prompts, candidates)

        with _timed(share.seconds, "select"):
            strategy = STRATEGIES[self.config.exploration_strategy]
            texts = text_identities([[c.text for c in row] for row in candidates])
            rngs = generators(seed, task.round, task.positions, Stream.SELECTION)
            selection = strategy(rewards, texts, rngs)
            rngs = generators(seed, task.round, task.positions, Stream.SYNTHETIC_LABEL)
            mixed = mix(selection, rewards, texts, task.synthetic, self.config.synthetic_pair, rngs)
            pick = [
                (row[i], row[j])
                for row, i, j in zip(candidates, mixed.first, mixed.second, strict=True)
            ]

        with _timed(share.seconds, "label"):
            asked = [
                bool(valid and not ours)
                for valid, ours in zip(selection.valid, task.synthetic, strict=True)
            ]
            labels = self._ask(task, pick, asked)

        for i, prompt in enumerate(prompts):
            if not selection.valid[i]:
                share.skipped_prompt_ids.append(prompt.id)
                continue
            pair = [mixed.first[i], mixed.second[i]]
            share.duels.append(
                Duel(
                    round=task.round,
                    position=task.positions[i],
                    prompt_id=prompt.id,
                    prompt_text=prompt.text,
                    prompt_token_ids=tuple(prompt_token_ids[i]),
                    first=pick[i][0],
                    second=pick[i][1],
                    member=int(mixed.member[i]),
                    synthetic=task.synthetic[i],
                    first_wins=bool(
                        mixed.first_wins[i] if task.synthetic[i] else labels["first_wins"][i]
                    ),
                    win_probability=float(labels["win_probability"][i]),
                    scores=(float(labels["first_score"][i]), float(labels["second_score"][i])),
                    features=features[i, pair],
                    member_rewards=rewards[:, i, pair].T.numpy().copy(),
                    policy_version=output["policy_version"],
                )
            )
        self._describe(share, prompts, candidates, rewards, pick, asked)
        return share

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[Candidate]]
    ) -> tuple[np.ndarray, torch.Tensor]:
        """Rewards of all candidates by all members.

        Args:
            prompts: B prompts.
            candidates: B lists of M candidates.

        Returns:
            Features (B, M, d) and rewards (K, B, M).
        """
        features = self.encoder.encode(
            [prompt.text for prompt in prompts],
            [[candidate.text for candidate in row] for row in candidates],
        )
        num_prompts, num_candidates, dim = features.shape
        with torch.inference_mode():
            flat = self.erm.forward_inference(
                {FEATURES: torch.from_numpy(features.reshape(-1, dim))}
            )[REWARDS]
        return features, flat.clone().view(-1, num_prompts, num_candidates)

    def _ask(
        self,
        task: RoundTask,
        pick: Sequence[tuple[Candidate, Candidate]],
        asked: Sequence[bool],
    ) -> Mapping[str, np.ndarray]:
        """Steps the environment: puts the real duels to the oracle, passes on the others."""
        places = range(self.env.num_envs)
        seeds = integer_seeds(self.config.seed, task.round, task.positions, Stream.LABEL)
        last = len(task.positions) - 1
        self.env.reset(
            seed=[seeds[min(i, last)] for i in places],  # type: ignore[arg-type]
            options={"prompt_indices": [task.prompt_indices[min(i, last)] for i in places]},
        )
        actions = [
            (pick[i][0].text, pick[i][1].text) if i <= last and asked[i] else text_duel.PASS
            for i in places
        ]
        firsts, seconds = zip(*actions, strict=True)
        _, _, _, _, infos = self.env.step((firsts, seconds))
        wrong = [i for i in places if bool(infos["asked"][i]) != (i <= last and asked[i])]
        if wrong:
            raise RuntimeError(f"the environment asked about other duels than chosen: {wrong}")
        return infos

    def _describe(
        self,
        share: RoundShare,
        prompts: Sequence[Prompt],
        candidates: Sequence[Sequence[Candidate]],
        rewards: torch.Tensor,
        pick: Sequence[tuple[Candidate, Candidate]],
        asked: Sequence[bool],
    ) -> None:
        """Fills in the share's measurements."""
        everyone = [candidate for row in candidates for candidate in row]
        share.num_candidates = len(everyone)
        share.num_finished = sum(c.finish_reason == "stop" for c in everyone)
        share.num_tokens = sum(len(c.token_ids) for c in everyone)
        favourites = rewards.argmax(dim=2)  # (K, B)
        popular = favourites.mode(dim=0).values
        share.argmax_agreement = float((favourites == popular).float().mean())
        if self.config.measure_online_win_rate:
            questions = [
                (prompt, response.text)
                for prompt, pair, real in zip(prompts, pick, asked, strict=True)
                if real and prompt.reference is not None
                for response in pair
            ]
            with _timed(share.seconds, "label"):
                share.online_wins = self._compare_with_references(questions)
            share.num_evaluation_questions = len(questions)

    def _compare_with_references(self, questions: Sequence[tuple[Prompt, str]]) -> list[float]:
        if not questions:
            return []
        prompts = [prompt for prompt, _ in questions]
        references = [prompt.reference or "" for prompt in prompts]
        responses = [response for _, response in questions]
        answers = text_duel.ask_oracle(self.oracle, prompts, responses, references)
        return answers.win_probability.tolist()

    # -- Evaluation -------------------------------------------------------------------

    @property
    def oracle(self) -> text_duel.Oracle:
        """The environment's oracle."""
        return self.env.unwrapped.oracle

    def respond(
        self, *, indices: Sequence[int], weights: Mapping[str, Any]
    ) -> list[Candidate] | Failure:
        """The policy's greedy responses to held-out prompts."""
        try:
            self.load(weights)
            prompts = [self.evaluation_prompts[i] for i in indices]
            output = self.policy.forward_inference(
                {"prompt_token_ids": self.tokenizer.encode_all([p.text for p in prompts])}
            )
            return [row[0] for row in output["candidates"]]
        except Exception as error:
            return _failure(error)

    def evaluate(
        self, *, indices: Sequence[int], baseline: Sequence[str], weights: Mapping[str, Any]
    ) -> list[EvaluatedResponse] | Failure:
        """Compares greedy responses with the initial policy's and with the references.

        Args:
            indices: Held-out prompts.
            baseline: The initial policy's greedy responses to them.
            weights: What :meth:`load` takes.
        """
        try:
            responses = self.respond(indices=indices, weights=weights)
            if isinstance(responses, Failure):
                return responses
            prompts = [self.evaluation_prompts[i] for i in indices]
            texts = [response.text for response in responses]
            against_initial = self._win_probabilities(prompts, texts, baseline)
            against_reference = self._win_probabilities(
                prompts, texts, [prompt.reference for prompt in prompts]
            )
            scores, initial_scores = np.full((2, len(prompts)), np.nan)
            if self.oracle.has_scores:
                scores = self.oracle.score(prompts, texts)
                initial_scores = self.oracle.score(prompts, baseline)
        except Exception as error:
            return _failure(error)
        return [
            EvaluatedResponse(
                prompt_id=prompt.id,
                prompt_text=prompt.text,
                response=response.text,
                num_tokens=len(response.token_ids),
                finished=response.finish_reason == "stop",
                win_vs_initial=float(against_initial[i]),
                win_vs_reference=float(against_reference[i]),
                score=float(scores[i]),
                initial_score=float(initial_scores[i]),
            )
            for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        ]

    def _win_probabilities(
        self, prompts: Sequence[Prompt], texts: Sequence[str], others: Sequence[str | None]
    ) -> np.ndarray:
        """(N,) win probabilities: 0.5 for equal texts, NaN where there is no other."""
        result = np.full(len(prompts), np.nan)
        rows = [i for i, other in enumerate(others) if other is not None]
        result[[i for i in rows if texts[i] == others[i]]] = 0.5
        rows = [i for i in rows if texts[i] != others[i]]
        if rows:
            result[rows] = text_duel.ask_oracle(
                self.oracle,
                [prompts[i] for i in rows],
                [texts[i] for i in rows],
                [str(others[i]) for i in rows],
            ).win_probability
        return result

    # -- Weights and state ------------------------------------------------------------

    def load(self, weights: Mapping[str, Any]) -> None:
        """Brings policy and ERM to the given versions; does nothing where they are there.

        Every task carries references to the weights it wants, so that a runner that was
        restarted, or that missed a round, is never stale.

        Args:
            weights: ``policy_version`` and ``policy_ref`` (None for the initial policy),
                ``erm_version`` and ``erm_ref``.
        """
        if self.policy.policy_version != weights["policy_version"]:
            self.policy.set_weights(ray.get(weights["policy_ref"]), weights["policy_version"])
        if self._erm_version != weights["erm_version"]:
            self.erm.set_state(ray.get(weights["erm_ref"]))
            self._erm_version = weights["erm_version"]

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
        if "policy" in self.__dict__:
            self.policy.close()
        self.env.close()

    def process_id(self) -> int:
        """The process that runs this, for fault tests."""
        import os

        return os.getpid()


def _failure(error: Exception) -> Failure:
    return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
