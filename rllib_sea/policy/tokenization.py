"""Prompts as tokens, for the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import transformers

from text_duel.model_files import NO_CODE, load_tokenizer


class PromptTokenizer:
    """The policy's own tokenizer.

    Args:
        path: The model's folder.
        chat: Wrap prompts in the chat template; None does so if the model has one.
    """

    def __init__(self, path: Path, chat: bool | None = None) -> None:
        self.tokenizer = load_tokenizer(path, "policy_model")
        self.chat = self.tokenizer.chat_template is not None if chat is None else chat
        self.context_length = int(
            transformers.AutoConfig.from_pretrained(path, **NO_CODE).max_position_embeddings
        )
        self.eos_token_ids = frozenset(_eos_token_ids(path, self.tokenizer.eos_token_id))

    def encode(self, text: str) -> tuple[int, ...]:
        """A prompt's tokens, up to where the response begins."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of many prompts, faster than one by one."""
        if not texts:
            return []
        if self.chat:
            texts = [
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
                )
                for text in texts
            ]
        encoded = self.tokenizer(
            list(texts), add_special_tokens=not self.chat, return_attention_mask=False
        )
        return [tuple(ids) for ids in encoded["input_ids"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """A response's text: end and special tokens left out, surrounding white space stripped."""
        ids = list(token_ids)
        if ids and ids[-1] in self.eos_token_ids:  # it may be no special token
            ids.pop()
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


def _eos_token_ids(path: Path, tokenizer_eos: int | None) -> set[int]:
    """All tokens that end a response: the tokenizer's and those of both configurations."""
    found = [tokenizer_eos, transformers.AutoConfig.from_pretrained(path, **NO_CODE).eos_token_id]
    if (Path(path) / transformers.utils.GENERATION_CONFIG_NAME).is_file():
        found.append(transformers.GenerationConfig.from_pretrained(path).eos_token_id)
    each = [token for entry in found for token in (entry if isinstance(entry, list) else [entry])]
    return {int(token) for token in each if token is not None and token >= 0}
