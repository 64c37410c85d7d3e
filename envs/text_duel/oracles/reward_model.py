"""Any Hugging Face reward model as an oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from text_duel.errors import ConfigError, OracleError
from text_duel.oracles.base import ScoringOracle
from text_duel.prompts import Prompt


class RewardModelOracle(ScoringOracle):
    """Scores with a sequence-classification model of one label.

    Prompt and response are put into the reward model's own chat template, as a user's and
    an assistant's turn, and tokenized by its own tokenizer. Nothing is cut: a text beyond
    the model's positions raises.

    Args:
        model: A local folder or a name on the hub.
        batch_size: Sequences in one forward pass.
        dtype: Such as ``"bfloat16"``.
        device: Where it runs; None takes a GPU where there is one.
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 16,
        dtype: str = "bfloat16",
        device: str | None = None,
    ) -> None:
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._batch_size = batch_size
        self.name = f"reward_model({model}, {dtype})"
        try:
            config = AutoConfig.from_pretrained(model)
            self._tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"oracle_config.model: {model!r} was found neither as a local folder nor on "
                f"the hub: {str(error).splitlines()[0]}"
            ) from error
        if config.num_labels != 1:
            raise ConfigError(
                f"oracle_config.model: {model!r} has {config.num_labels} labels, a reward model "
                "has 1"
            )
        if self._tokenizer.chat_template is None:
            raise ConfigError(f"oracle_config.model: the tokenizer of {model!r} has no chat template")
        self._pad_id = self._tokenizer.pad_token_id
        if self._pad_id is None:
            self._pad_id = self._tokenizer.eos_token_id
        config.pad_token_id = self._pad_id
        self._max_tokens = getattr(config, "max_position_embeddings", None)
        self._model = (
            AutoModelForSequenceClassification.from_pretrained(
                model, config=config, dtype=getattr(torch, dtype)
            )
            .to(self._device)
            .eval()
        )

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        token_ids = [
            self._tokens(prompt, response)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        scores = np.empty(len(token_ids), dtype=np.float64)
        order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            scores[rows] = self._score_batch([token_ids[i] for i in rows])
        return scores

    def _tokens(self, prompt: Prompt, response: str) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            [
                {"role": "user", "content": prompt.text},
                {"role": "assistant", "content": response},
            ],
            tokenize=False,
        )
        token_ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._max_tokens is not None and len(token_ids) > self._max_tokens:
            raise OracleError(
                f"prompt {prompt.id!r} and its response take {len(token_ids)} tokens, "
                f"{self.name} has room for {self._max_tokens}"
            )
        return token_ids

    @torch.inference_mode()
    def _score_batch(self, token_ids: Sequence[Sequence[int]]) -> np.ndarray:
        width = max(len(ids) for ids in token_ids)
        padded = torch.full((len(token_ids), width), self._pad_id)
        mask = torch.zeros_like(padded)
        for row, ids in enumerate(token_ids):
            padded[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        logits = self._model(
            input_ids=padded.to(self._device), attention_mask=mask.to(self._device)
        ).logits
        return logits[:, 0].double().cpu().numpy()
