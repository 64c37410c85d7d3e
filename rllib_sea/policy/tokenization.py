"""Prompts as tokens, for the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
import transformers

from text_duel.conversations import Content, as_messages
from text_duel.errors import ConfigError
from text_duel.model_files import NO_CODE, load_tokenizer


class PromptTokenizer:
    """The policy's own tokenizer.

    Args:
        path: The model's folder.
        chat: Wrap prompts in the chat template; None does so if the model has one.

    Raises:
        ConfigError: ``chat`` is true, and the model has no chat template.
    """

    def __init__(self, path: Path, chat: bool | None = None) -> None:
        self.tokenizer = load_tokenizer(path, "policy_model")
        has_template = self.tokenizer.chat_template is not None
        if chat and not has_template:
            raise ConfigError(f"chat_template: true, and the model in {path} has no chat template")
        self.chat = has_template if chat is None else chat
        self.context_length = int(
            transformers.AutoConfig.from_pretrained(path, **NO_CODE).max_position_embeddings
        )
        self.eos_token_ids = frozenset(_eos_token_ids(path, self.tokenizer.eos_token_id))

    def encode(self, prompt: Content) -> tuple[int, ...]:
        """A prompt's tokens, up to where the response begins; see :meth:`encode_all`."""
        return self.encode_all([prompt])[0]

    def encode_all(
        self, prompts: Sequence[Content], names: Sequence[str] = ()
    ) -> list[tuple[int, ...]]:
        """The tokens of many prompts, faster than one by one.

        Args:
            prompts: N texts or conversations.
            names: What to call each in a message.

        Returns:
            N sequences of tokens, up to where the response begins.

        Raises:
            ConfigError: A conversation, and prompts are not wrapped in a chat template; or one
                that the chat template does not take.
        """
        if not prompts:
            return []
        texts = [self._text(prompt, names[i : i + 1]) for i, prompt in enumerate(prompts)]
        encoded = self.tokenizer(
            texts, add_special_tokens=not self.chat, return_attention_mask=False
        )
        return [tuple(ids) for ids in encoded["input_ids"]]

    def _text(self, prompt: Content, name: Sequence[str]) -> str:
        """A prompt as the text that is tokenized."""
        if self.chat:
            try:
                return self.tokenizer.apply_chat_template(
                    list(as_messages(prompt)), add_generation_prompt=True, tokenize=False
                )
            except jinja2.TemplateError as error:  # such as: no system messages, turns alternate
                raise ConfigError(
                    f"{''.join(name) or 'prompt'}: the model's chat template does not take this "
                    f"conversation: {' '.join(str(error).split())}"
                ) from error
        if isinstance(prompt, str):
            return prompt
        raise ConfigError(
            f"{''.join(name) or 'prompt'}: a conversation needs a model with a chat template, and "
            "`chat_template` that is not false"
        )

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
