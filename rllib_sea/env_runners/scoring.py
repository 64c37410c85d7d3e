"""What the ERM thinks of responses: features by its encoder, rewards by its members."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import ray
import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_sea.duels.records import Candidate
from rllib_sea.reward_model.encoder import CandidateEncoder
from rllib_sea.reward_model.module import FEATURES, REWARDS


class Scorer:
    """An encoder and a copy of the ERM.

    Args:
        encoder: The ERM's frozen encoder.
        erm: The ERM, of any weights.
    """

    def __init__(self, encoder: CandidateEncoder, erm: RLModule) -> None:
        self._encoder = encoder
        self._erm = erm
        self._weights: ray.ObjectRef | None = None

    def load(self, weights: ray.ObjectRef) -> None:
        """Brings the ERM to the given weights, which are fetched only if they are new."""
        if self._weights != weights:
            self._erm.set_state(ray.get(weights))
            self._weights = weights

    def rewards(self, features: np.ndarray) -> np.ndarray:
        """(K, N) rewards by all members of features (N, d)."""
        with torch.inference_mode():
            output = self._erm.forward_inference({FEATURES: torch.from_numpy(features)})
            return output[REWARDS].numpy()

    def score(
        self,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Candidate]],
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and rewards of all candidates.

        Args:
            prompts: B prompts.
            prompt_token_ids: The same as tokens.
            candidates: B lists of candidates; lists may differ in length if the engine
                returned less.

        Returns:
            B times features (M, d) and rewards by all members (K, M).
        """
        # One batch for all lists of one length: a round has just one length.
        result: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for length in {len(row) for row in candidates}:
            rows = [i for i, row in enumerate(candidates) if len(row) == length]
            features = self._encoder.encode(
                [prompts[i] for i in rows],
                [prompt_token_ids[i] for i in rows],
                [candidates[i] for i in rows],
            )
            rewards = self.rewards(features.reshape(-1, self._encoder.dim))
            rewards = rewards.reshape(-1, len(rows), length)
            for place, i in enumerate(rows):
                result[i] = features[place], rewards[:, place].copy()
        return [result[i] for i in range(len(prompts))]
