"""Prompts as tokens, for the policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import transformers

from text_duel.chat_templates import rendered, wants_parts
from text_duel.conversations import Content, as_messages, as_text, joined_to, turn
from text_duel.errors import ConfigError, one_line
from text_duel.model_files import NO_CODE, context_length, load_tokenizer

# Prompts that are tokenized together.
_AT_ONCE = 1024


class _RefusedError(ValueError):
    """A prompt cannot be taken; says why."""


class PromptTokenizer:
    """The policy's own tokenizer.

    Args:
        path: The model's folder.
        chat: Wrap prompts in the chat template; None does so if the model has one.

    Attributes:
        tokenizer: The model's, as Transformers has it.
        chat: Whether prompts are wrapped.
        context_length: The most tokens of a prompt and its response together.
        eos_token_ids: All tokens that end a response, at least one.

    Raises:
        ConfigError: The tokenizer cannot be read, or is another model's; there is no chat template
            though ``chat`` says so, or it does not show what is asked; nothing ends a response.
    """

    def __init__(self, path: Path, chat: bool | None = None) -> None:
        self.tokenizer = load_tokenizer(path, "policy_model")
        config = transformers.AutoConfig.from_pretrained(path, **NO_CODE)
        self.context_length = context_length(config, self.tokenizer)
        self.eos_token_ids = frozenset(_eos_token_ids(path, config, self.tokenizer))
        self.chat = self.tokenizer.chat_template is not None if chat is None else chat
        self._in_parts = self.chat and wants_parts(
            self.tokenizer,
            ["user"],
            f"chat_template: the tokenizer of {path}",
            "set chat_template false, or take another model",
        )

    def encode(self, prompt: Content) -> tuple[int, ...]:
        """A prompt's tokens, up to where the response begins; see :meth:`encode_all`."""
        return self.encode_all([prompt])[0]

    def encode_all(
        self, prompts: Sequence[Content], names: Sequence[str] = ()
    ) -> list[tuple[int, ...]]:
        """The tokens of many prompts, faster than one by one; see :meth:`encode_each`."""
        return list(self.encode_each(prompts, names))

    def encode_each(
        self, prompts: Sequence[Content], names: Sequence[str] = ()
    ) -> Iterator[tuple[int, ...]]:
        """The tokens of many prompts, one after the other: not all of them are in memory.

        Args:
            prompts: N texts or conversations.
            names: What to call each in a message.

        Yields:
            N sequences of tokens, up to where the response begins.

        Raises:
            ConfigError: Conversations, and prompts are not wrapped in a chat template; or some that
                the chat template does not take: once, with their number.
        """
        for start in range(0, len(prompts), _AT_ONCE):
            try:
                texts = [self._text(prompt) for prompt in prompts[start : start + _AT_ONCE]]
            except _RefusedError:
                # Those before were taken.
                raise ConfigError(self._refusal(prompts[start:], names[start:])) from None
            encoded = self.tokenizer(
                texts, add_special_tokens=not self.chat, return_attention_mask=False
            )
            yield from map(tuple, encoded["input_ids"])

    def _refusal(self, prompts: Sequence[Content], names: Sequence[str]) -> str:
        """What is said of prompts that cannot be taken, of which there is one."""
        refused = []
        for i, prompt in enumerate(prompts):
            try:
                self._text(prompt)
            except _RefusedError as error:
                refused.append(f"{''.join(names[i : i + 1]) or 'prompt'}: {error}")
        others = len(refused) - 1
        return refused[0] + (f" ({others} more prompts are refused, too)" if others else "")

    def _text(self, prompt: Content) -> str:
        """A prompt as the text that is tokenized."""
        if self.chat:
            try:
                return rendered(
                    self.tokenizer,
                    as_messages(prompt),
                    in_parts=self._in_parts,
                    add_generation_prompt=True,
                )
            except jinja2.TemplateError as error:  # such as: no system messages, turns alternate
                raise _RefusedError(
                    "the model's chat template does not take this conversation (roles "
                    f"{', '.join(m['role'] for m in as_messages(prompt))}): {one_line(error)}"
                ) from error
        if isinstance(prompt, str):
            return prompt
        raise _RefusedError(
            "a conversation needs a model with a chat template, and `chat_template` that is not "
            "false"
        )

    def encode_responses(
        self, prompts: Sequence[Content], texts: Sequence[str]
    ) -> list[tuple[int, ...]]:
        """The tokens of whole responses that somebody else wrote; nothing is cut.

        Args:
            prompts: N texts or conversations.
            texts: A response to each, surrounding white space stripped.

        Returns:
            N sequences of tokens, each with the :attr:`end_token_id`.
        """
        if not texts:
            return []
        apart = [
            text if self.chat else joined_to(as_text(prompt), text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        encoded = self.tokenizer(apart, add_special_tokens=False, return_attention_mask=False)
        end = self.end_token_id
        return [(*token_ids, end) for token_ids in encoded["input_ids"]]

    @property
    def end_token_id(self) -> int:
        """The token by which the policy ends a response.

        With a chat template it is the one that ends the assistant's turn, which in some models is
        not the tokenizer's end token.
        """
        if self.chat:
            turns = [*as_messages("a"), *turn("assistant", "b")]
            try:
                text = rendered(self.tokenizer, turns, in_parts=self._in_parts)
            except jinja2.TemplateError:  # it takes no turns of the assistant
                text = ""
            token_ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            ends = [token for token in token_ids if token in self.eos_token_ids]
            if ends:
                return ends[-1]
        eos = self.tokenizer.eos_token_id
        return min(self.eos_token_ids) if eos is None else eos

    def decode(self, token_ids: Sequence[int]) -> str:
        """A response's text: end and special tokens left out, surrounding white space stripped."""
        ids = list(token_ids)
        if ids and ids[-1] in self.eos_token_ids:  # it may be no special token
            ids.pop()
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


def _eos_token_ids(path: Path, config: Any, tokenizer: Any) -> set[int]:
    """All tokens that end a response: the tokenizer's and those of both configurations.

    Raises:
        ConfigError: There is none, or the tokenizer has none of those that the configuration names.
    """
    named = _as_ids(config.get_text_config().eos_token_id)
    found = named | _as_ids(tokenizer.eos_token_id)
    if (Path(path) / transformers.utils.GENERATION_CONFIG_NAME).is_file():
        try:
            settings = transformers.GenerationConfig.from_pretrained(path)
        except ValueError as error:
            raise ConfigError(
                f"policy_model: the generation_config.json of {path} cannot be read: "
                f"{one_line(error)}"
            ) from error
        found |= _as_ids(settings.eos_token_id)
    if not found:
        raise ConfigError(
            f"policy_model: nothing ends a response of {path}: neither its tokenizer nor its "
            "configuration names an end token (eos_token_id)"
        )
    if named and min(named) >= len(tokenizer):
        raise ConfigError(
            f"policy_model: {path} ends responses with the token {min(named)} (eos_token_id in "
            f"config.json), its tokenizer has {len(tokenizer)} tokens: it is another model's"
        )
    return found


def _as_ids(entry: int | list[int] | None) -> set[int]:
    each = entry if isinstance(entry, list) else [entry]
    return {int(token) for token in each if token is not None and token >= 0}
