"""The text-duel environments: a prompt, two responses, one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from text_duel.config import label_rule, oracle_options, validate_env_config
from text_duel.errors import ConfigError
from text_duel.oracles import Oracle, ask_oracle, make_oracle
from text_duel.prompts import Prompt
from text_duel.spaces import UnicodeText

MAX_CHARACTERS = 1_000_000
# The action that asks nothing: the oracle is not called, nothing is counted, the reward is 0.
PASS = ("", "")


class _Duels:
    """What the single and the vector environment share: prompts, oracle, labels."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.prompts: Sequence[Prompt] = validate_env_config(config)
        self._oracle_options = oracle_options(config)
        self.labels = label_rule(config)
        self.num_oracle_queries = 0

    @cached_property
    def oracle(self) -> Oracle:
        """The oracle; made when it is wanted: an environment that only shows prompts has none."""
        return make_oracle(**self._oracle_options)

    def judge(
        self,
        prompts: Sequence[Prompt],
        first: Sequence[str],
        second: Sequence[str],
        rngs: Sequence[np.random.Generator],
    ) -> dict[str, np.ndarray]:
        """Asks the oracle once about all duels that are no pass.

        If this raises, nothing was counted or drawn: the same step can be tried again.

        Args:
            prompts: N prompts.
            first: N responses.
            second: N other responses.
            rngs: N sources of label randomness.

        Returns:
            A vector environment's info: arrays (N,), each beside its mask ``_key``.
        """
        pairs = list(zip(first, second, strict=True))
        rows = []
        for i, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
            if pair == PASS:
                continue
            if pair[0] == pair[1]:
                raise ValueError(
                    f"two identical responses to prompt {prompt.id!r} are no duel: "
                    "submit two texts, or text_duel.PASS"
                )
            rows.append(i)

        count = len(pairs)
        asked, first_wins = np.zeros((2, count), dtype=bool)
        probability, first_score, second_score = np.full((3, count), np.nan)
        if rows:
            answers = ask_oracle(
                self.oracle,
                [prompts[i] for i in rows],
                [pairs[i][0] for i in rows],
                [pairs[i][1] for i in rows],
            )
            self.num_oracle_queries += len(rows)
            asked[rows] = True
            probability[rows] = answers.win_probability
            first_score[rows], second_score[rows] = answers.first_score, answers.second_score
            first_wins[rows] = [self.labels.draw(probability[i], rngs[i]) for i in rows]
        return {
            **_prompt_ids(prompts),
            "asked": asked,
            "_asked": np.ones(count, dtype=bool),
            "first_wins": first_wins,
            "_first_wins": asked.copy(),
            "win_probability": probability,
            "_win_probability": asked.copy(),
            "first_score": first_score,
            "_first_score": np.isfinite(first_score),
            "second_score": second_score,
            "_second_score": np.isfinite(second_score),
        }

    def pick(self, rng: np.random.Generator, index: int | None) -> Prompt:
        """The prompt of an index, or one drawn."""
        if index is None:
            return self.prompts[int(rng.integers(len(self.prompts)))]
        if not 0 <= index < len(self.prompts):
            raise IndexError(f"prompt_index {index} is outside [0, {len(self.prompts)})")
        return self.prompts[index]


def _prompt_ids(prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    return {
        "prompt_id": np.array([prompt.id for prompt in prompts], dtype=object),
        "_prompt_id": np.ones(len(prompts), dtype=bool),
    }


class TextDuelEnv(gym.Env[str, tuple[str, str]]):
    """A contextual dueling bandit over texts: ``text_duel/TLDR-v0``.

    An observation is a prompt, an action a pair of responses to it. Every episode has one
    step. The reward is 1 if the first response is preferred, else 0.

    ``info`` after a step: ``prompt_id``; ``asked`` (False for :data:`PASS`); if it was
    asked, ``first_wins`` (the label) and ``win_probability`` (the oracle's, before the label is
    drawn); for an oracle with scores, ``first_score`` and ``second_score``.

    Args:
        render_mode: None: there is nothing to render.
        **config: The keywords below.

    Keyword Args:
        prompts: A source of :func:`text_duel.load_prompts`.
        split: Its split.
        template: Its template.
        columns: Its column mapping.
        limit: Take only the first prompts.
        oracle: A name of :data:`text_duel.oracles.ORACLES`, or ``"module:Class"``.
        oracle_config: The oracle's arguments.
        labels: ``"deterministic"`` or ``"bradley_terry"``.
        flip_noise: Probability, in [0, 0.5), that a label is turned round.

    Raises:
        ConfigError: For an unknown key or a bad value.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's interface

    def __init__(self, render_mode: str | None = None, **config: Any) -> None:
        if render_mode is not None:
            raise ConfigError(f"render_mode: {render_mode!r} is not None: nothing is rendered")
        self._duels = _Duels(config)
        self.observation_space = UnicodeText(MAX_CHARACTERS)
        self.action_space = gym.spaces.Tuple(
            (UnicodeText(MAX_CHARACTERS), UnicodeText(MAX_CHARACTERS))
        )
        self.prompts = self._duels.prompts
        self._prompt: Prompt | None = None

    @property
    def oracle(self) -> Oracle:
        """Who is asked."""
        return self._duels.oracle

    @property
    def num_oracle_queries(self) -> int:
        """Questions that the oracle has answered so far."""
        return self._duels.num_oracle_queries

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Shows a prompt.

        Args:
            seed: Of prompts and labels.
            options: ``{"prompt_index": i}`` picks the prompt; otherwise one is drawn.

        Returns:
            The prompt, and an info with ``prompt_id``.

        Raises:
            IndexError: There is no prompt of that index.
        """
        super().reset(seed=seed)
        self._prompt = self._duels.pick(self.np_random, (options or {}).get("prompt_index"))
        return self._prompt.text, {"prompt_id": self._prompt.id}

    def step(self, action: tuple[str, str]) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Puts two responses to the oracle.

        Args:
            action: Two different texts, or :data:`PASS`.

        Returns:
            The same prompt, the reward, True (an episode has one step), False, the info.

        Raises:
            RuntimeError: The episode is over.
            ValueError: For two identical responses.
            OracleError: If the oracle cannot answer; the step can be tried again.
        """
        if self._prompt is None:
            raise RuntimeError("an episode has one step: call reset() first")
        first, second = action
        infos = self._duels.judge([self._prompt], [first], [second], [self.np_random])
        # What is not known is left out, as Gymnasium's checker finds NaN unequal to itself.
        info = {
            key: values.tolist()[0]
            for key, values in infos.items()
            if not key.startswith("_") and infos[f"_{key}"][0]
        }
        observation, self._prompt = self._prompt.text, None
        return observation, float(infos["first_wins"][0]), True, False, info


class TextDuelVectorEnv(VectorEnv):
    """Many text duels at once; the oracle is asked once per step, in one batch.

    Observations are a tuple of prompts, an action is a pair of tuples of responses. Labels
    do not depend on batching: sub-environment i, reset with seed s, gives the labels of a
    :class:`TextDuelEnv` that was reset with seed s. Episodes end with every step and are
    not reset by themselves, and all are reset together.

    ``info`` has the keys of the single environment as arrays (num_envs,), always all of them:
    False or NaN, and False in the mask ``_key``, if the single environment leaves one out.

    Args:
        num_envs: How many, at least 1.
        **config: As for :class:`TextDuelEnv`.

    Raises:
        ConfigError: For an unknown key or a bad value.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - Gymnasium's interface

    def __init__(self, num_envs: int = 1, **config: Any) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ConfigError(f"num_envs: {num_envs!r} is not a whole number of at least 1")
        self.num_envs = num_envs
        self._duels = _Duels(config)
        self.single_observation_space = UnicodeText(MAX_CHARACTERS)
        self.single_action_space = gym.spaces.Tuple(
            (UnicodeText(MAX_CHARACTERS), UnicodeText(MAX_CHARACTERS))
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.prompts = self._duels.prompts
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._shown: list[Prompt] | None = None

    @property
    def oracle(self) -> Oracle:
        """Who is asked."""
        return self._duels.oracle

    @property
    def num_oracle_queries(self) -> int:
        """Questions that the oracle has answered so far."""
        return self._duels.num_oracle_queries

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Shows prompts.

        Args:
            seed: One seed a sub-environment; a single number s stands for s, s + 1, ...
            options: ``{"prompt_indices": [...]}`` picks the prompts; otherwise they are drawn.

        Returns:
            num_envs prompts, and an info with their ``prompt_id``.

        Raises:
            ValueError: Another number of seeds or indices than of sub-environments, or a
                ``reset_mask`` that leaves some of them out.
            IndexError: There is no prompt of such an index.
        """
        options = options or {}
        if not np.all(options.get("reset_mask", True)):
            raise ValueError("reset_mask: all sub-environments are reset together")
        if seed is not None:
            seeds = (
                [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
            )
            if len(seeds) != self.num_envs:
                raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
            for i, one in enumerate(seeds):
                if one is not None:
                    self._rngs[i] = gym.utils.seeding.np_random(one)[0]
        indices = options.get("prompt_indices", [None] * self.num_envs)
        if len(indices) != self.num_envs:
            raise ValueError(f"{len(indices)} prompt_indices for {self.num_envs} environments")
        self._shown = [
            self._duels.pick(rng, index) for rng, index in zip(self._rngs, indices, strict=True)
        ]
        return tuple(prompt.text for prompt in self._shown), dict(_prompt_ids(self._shown))

    def step(
        self, actions: tuple[Sequence[str], Sequence[str]]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Puts a pair of responses of each sub-environment to the oracle.

        Args:
            actions: The num_envs first and the num_envs second responses; both parts of
                :data:`PASS` if nothing is asked.

        Returns:
            The same prompts, the rewards (num_envs,), all True (an episode has one step), all
            False, the infos.

        Raises:
            RuntimeError: The episodes are over.
            ValueError: For two identical responses, or another number of responses.
            OracleError: If the oracle cannot answer; the step can be tried again.
        """
        if self._shown is None:
            raise RuntimeError("an episode has one step: call reset() first")
        first, second = actions
        infos = self._duels.judge(self._shown, first, second, self._rngs)
        observations = tuple(prompt.text for prompt in self._shown)
        self._shown = None
        return (
            observations,
            infos["first_wins"].astype(np.float64),
            np.ones(self.num_envs, dtype=bool),
            np.zeros(self.num_envs, dtype=bool),
            infos,
        )
