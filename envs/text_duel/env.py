"""The text-duel environments: a prompt, two responses, one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from text_duel.config import validate_env_config
from text_duel.labels import label
from text_duel.oracles import checked_comparison, make_oracle
from text_duel.prompts import Prompt, load_prompts, prompt_options
from text_duel.spaces import UnicodeText

MAX_CHARACTERS = 1_000_000
# The action that asks nothing: the oracle is not called, the reward is 0.
PASS = ("", "")


class _Duels:
    """What the single and the vector environment share: prompts, oracle, labels."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = {key: value for key, value in config.items() if value is not None}
        validate_env_config(config)
        self.prompts: Sequence[Prompt] = load_prompts(**prompt_options(config))
        self.oracle = make_oracle(config.get("oracle", "embedding"), config.get("oracle_config"))
        self.mode: str = config.get("labels", "deterministic")
        self.flip_noise: float = config.get("flip_noise", 0.0)
        self.num_oracle_queries = 0

    def judge(
        self,
        prompts: Sequence[Prompt],
        first: Sequence[str],
        second: Sequence[str],
        rngs: Sequence[np.random.Generator],
    ) -> list[dict[str, Any]]:
        """Asks the oracle once about all duels that are no pass; one info a duel."""
        infos: list[dict[str, Any]] = [
            {
                "asked": False,
                "first_wins": False,
                "win_probability": np.nan,
                "first_score": np.nan,
                "second_score": np.nan,
                "prompt_id": prompt.id,
            }
            for prompt in prompts
        ]
        pairs = list(zip(first, second, strict=True))
        rows = [i for i, pair in enumerate(pairs) if pair != PASS]
        for i in rows:
            if pairs[i][0] == pairs[i][1]:
                raise ValueError(
                    f"two identical responses to prompt {prompts[i].id!r} are no duel: "
                    "submit two texts, or text_duel.PASS"
                )
        if not rows:
            return infos
        asked = [prompts[i] for i in rows]
        firsts, seconds = [first[i] for i in rows], [second[i] for i in rows]
        self.num_oracle_queries += len(rows)
        probabilities = checked_comparison(self.oracle, asked, firsts, seconds)
        scores = None
        if self.oracle.has_scores:
            scores = self.oracle.score([*asked, *asked], [*firsts, *seconds])
        for place, i in enumerate(rows):
            infos[i]["asked"] = True
            infos[i]["win_probability"] = float(probabilities[place])
            infos[i]["first_wins"] = label(
                float(probabilities[place]), rngs[i], self.mode, self.flip_noise
            )
            if scores is not None:
                infos[i]["first_score"] = float(scores[place])
                infos[i]["second_score"] = float(scores[len(rows) + place])
        return infos

    def pick(self, rng: np.random.Generator, index: int | None) -> Prompt:
        """The prompt of an index, or one drawn."""
        if index is None:
            index = int(rng.integers(len(self.prompts)))
        if not 0 <= index < len(self.prompts):
            raise IndexError(f"prompt_index {index} is outside [0, {len(self.prompts)})")
        return self.prompts[index]


class TextDuelEnv(gym.Env[str, tuple[str, str]]):
    """A contextual dueling bandit over texts: ``text_duel/TLDR-v0``.

    An observation is a prompt, an action a pair of responses to it. Every episode has one
    step. The reward is 1 where the first response is preferred, else 0.

    ``info`` after a step: ``asked`` (False for :data:`PASS`), ``first_wins`` (the label),
    ``win_probability`` (the oracle's), ``first_score`` and ``second_score`` (NaN where the
    oracle has none), ``prompt_id``.

    Args:
        prompts: A source of :func:`text_duel.load_prompts`.
        split: Its split.
        template: Its template.
        columns: Its column mapping.
        limit: Take only the first prompts.
        oracle: A name of :data:`text_duel.oracles.ORACLES`, or ``"module:Class"``.
        oracle_config: The oracle's arguments.
        labels: ``"deterministic"`` or ``"bradley_terry"``.
        flip_noise: Probability, in [0, 0.5), that a label is turned round.
        render_mode: Gymnasium's; there is nothing to render.

    Raises:
        ConfigError: For an unknown key or a bad value.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's interface

    def __init__(self, render_mode: str | None = None, **config: Any) -> None:
        self.render_mode = render_mode
        self._duels = _Duels(config)
        self.observation_space = UnicodeText(MAX_CHARACTERS)
        self.action_space = gym.spaces.Tuple(
            (UnicodeText(MAX_CHARACTERS), UnicodeText(MAX_CHARACTERS))
        )
        self.prompts = self._duels.prompts
        self.oracle = self._duels.oracle
        self._prompt: Prompt | None = None

    @property
    def num_oracle_queries(self) -> int:
        """Questions asked of the oracle so far."""
        return self._duels.num_oracle_queries

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Shows a prompt.

        Args:
            seed: Of prompts and labels.
            options: ``{"prompt_index": i}`` picks the prompt; otherwise one is drawn.
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
            ValueError: For two identical responses.
            OracleError: Where the oracle cannot answer.
        """
        if self._prompt is None:
            raise RuntimeError("an episode has one step: call reset() first")
        first, second = action
        (info,) = self._duels.judge([self._prompt], [first], [second], [self.np_random])
        observation, self._prompt = self._prompt.text, None
        return observation, float(info["first_wins"]), True, False, info


class TextDuelVectorEnv(VectorEnv):
    """Many text duels at once; the oracle is asked once a step, in one batch.

    Observations are a tuple of prompts, an action is a pair of tuples of responses. Labels
    do not depend on batching: sub-environment i, reset with seed s, gives the labels of a
    :class:`TextDuelEnv` that was reset with seed s. Episodes end with every step and are
    not reset by themselves.

    Args:
        num_envs: How many.
        **config: As for :class:`TextDuelEnv`.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - Gymnasium's interface

    def __init__(self, num_envs: int = 1, **config: Any) -> None:
        self.num_envs = num_envs
        self._duels = _Duels(config)
        self.single_observation_space = UnicodeText(MAX_CHARACTERS)
        self.single_action_space = gym.spaces.Tuple(
            (UnicodeText(MAX_CHARACTERS), UnicodeText(MAX_CHARACTERS))
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.prompts = self._duels.prompts
        self.oracle = self._duels.oracle
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._shown: list[Prompt] | None = None

    @property
    def num_oracle_queries(self) -> int:
        """Questions asked of the oracle so far."""
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
            options: ``{"prompt_indices": [...]}`` picks the prompts.
        """
        if seed is not None:
            seeds = (
                [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
            )
            if len(seeds) != self.num_envs:
                raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
            for i, one in enumerate(seeds):
                if one is not None:
                    self._rngs[i] = gym.utils.seeding.np_random(one)[0]
        indices = (options or {}).get("prompt_indices", [None] * self.num_envs)
        if len(indices) != self.num_envs:
            raise ValueError(f"{len(indices)} prompt_indices for {self.num_envs} environments")
        self._shown = [
            self._duels.pick(rng, index) for rng, index in zip(self._rngs, indices, strict=True)
        ]
        ids = np.array([prompt.id for prompt in self._shown], dtype=object)
        return tuple(prompt.text for prompt in self._shown), {"prompt_id": ids}

    def step(
        self, actions: tuple[Sequence[str], Sequence[str]]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Puts a pair of responses of each sub-environment to the oracle.

        Args:
            actions: The first and the second responses; :data:`PASS` where nothing is
                asked.

        Raises:
            ValueError: For two identical responses.
            OracleError: Where the oracle cannot answer.
        """
        if self._shown is None:
            raise RuntimeError("an episode has one step: call reset() first")
        first, second = actions
        infos = self._duels.judge(self._shown, first, second, self._rngs)
        observations = tuple(prompt.text for prompt in self._shown)
        self._shown = None
        merged: dict[str, Any] = {}
        for key in infos[0]:
            values = [info[key] for info in infos]
            merged[key] = np.array(values, dtype=object if key == "prompt_id" else None)
            merged[f"_{key}"] = np.ones(self.num_envs, dtype=bool)
        return (
            observations,
            merged["first_wins"].astype(np.float64),
            np.ones(self.num_envs, dtype=bool),
            np.zeros(self.num_envs, dtype=bool),
            merged,
        )
