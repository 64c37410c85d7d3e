"""Prompts as tokens, for the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import transformers

from text_duel.conversations import Content, as_messages
from text_duel.errors import ConfigError
from text_duel.model_files import NO_CODE, context_length, load_tokenizer, one_line

# A text that a chat template must show.
_SHOWN = "What is asked?"


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
        ConfigError: The tokenizer cannot be read, is another model's, or gives no tokens; there is
            no chat template though ``chat`` says so, or it does not show what is asked; nothing
            ends a response.
    """

    def __init__(self, path: Path, chat: bool | None = None) -> None:
        self.tokenizer = load_tokenizer(path, "policy_model")
        config = transformers.AutoConfig.from_pretrained(path, **NO_CODE)
        self.context_length = context_length(config, self.tokenizer)
        self.eos_token_ids = frozenset(_eos_token_ids(path, config, self.tokenizer))
        if not self.tokenizer(_SHOWN, add_special_tokens=False)["input_ids"]:
            raise ConfigError(f"policy_model: the tokenizer of {path} has no tokens for a text")
        has_template = self.tokenizer.chat_template is not None
        self.chat = has_template if chat is None else chat
        if self.chat and not has_template:
            raise ConfigError(
                f"chat_template: true, but the tokenizer of {path} has no chat template: set "
                "chat_template false, or null"
            )
        # Templates of models that also read images take a message's content in parts.
        self._in_parts = self.chat and _wants_parts(self.tokenizer, path)

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
                return _rendered(self.tokenizer, prompt, in_parts=self._in_parts)
            except jinja2.TemplateError as error:  # such as: no system messages, turns alternate
                raise ConfigError(
                    f"{''.join(name) or 'prompt'}: the model's chat template does not take this "
                    f"conversation: {one_line(error)}"
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


def _rendered(tokenizer: Any, prompt: Content, *, in_parts: bool) -> str:
    messages: list[Any] = list(as_messages(prompt))
    if in_parts:
        messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in messages]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def _wants_parts(tokenizer: Any, path: Path) -> bool:
    """Whether the chat template shows a text only if it is a part of a message's content.

    Raises:
        ConfigError: It shows it neither way.
    """
    reason = "it leaves out what is asked"
    for in_parts in (False, True):
        try:
            if _SHOWN in _rendered(tokenizer, _SHOWN, in_parts=in_parts):
                return in_parts
        except Exception as error:  # a template may raise anything
            reason = one_line(error)
    raise ConfigError(
        f"policy_model: the chat template of {path} cannot be used: {reason}: set chat_template "
        "false, or mend it"
    )


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
