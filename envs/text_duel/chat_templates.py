"""Conversations as a model's chat template writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from text_duel.conversations import Message
from text_duel.errors import ConfigError, one_line

# A text that a template must show.
_SHOWN = "What is asked?"


def rendered(tokenizer: Any, messages: Sequence[Message], *, in_parts: bool, **options: Any) -> str:
    """A conversation as text.

    Args:
        tokenizer: A model's, with a chat template.
        messages: Each with ``role`` and ``content``.
        in_parts: See :func:`wants_parts`.
        **options: Of ``apply_chat_template``.
    """
    sent: list[Any] = list(messages)
    if in_parts:
        sent = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in sent]
    return tokenizer.apply_chat_template(sent, tokenize=False, **options)


def wants_parts(tokenizer: Any, roles: Sequence[str], what: str, way_on: str) -> bool:
    """Whether a chat template shows a text only if it is a part of a message's content.

    Those of models that also read images do; others show nothing of parts.

    Args:
        tokenizer: A model's.
        roles: Of the messages that it must show, the first one first.
        what: The key and the model, for the message.
        way_on: What can be done, for the message.

    Raises:
        ConfigError: There is no template, or it shows a text neither way.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(f"{what} has no chat template: {way_on}")
    reason = "it leaves out what is asked"
    texts = [f"{_SHOWN} {place}" for place in range(len(roles))]
    messages = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=True)]
    for in_parts in (False, True):
        try:
            shown = rendered(tokenizer, messages, in_parts=in_parts)
        except Exception as error:  # a template may raise anything
            reason = one_line(error)
        else:
            if all(text in shown for text in texts):
                return in_parts
    raise ConfigError(f"{what} has a chat template that cannot be used: {reason}: {way_on}")
