"""What a policy may be asked: a text, or a conversation; and how either is read and shown.

A conversation is a list of messages ``{"role": ..., "content": ...}``, as Transformers' chat
templates take it. Whether a text is sent as a user's turn is the policy's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

ROLES = ("system", "user", "assistant", "tool")
# What others call them: OpenAI's newer models; ShareGPT.
_OTHER_NAMES = {"developer": "system", "human": "user", "gpt": "assistant"}
# How a message says who speaks, and what: as Transformers has it, and as ShareGPT.
_KEYS = (("role", "content"), ("from", "value"))
# Keys of a message that say something too, which would be lost.
_SAID = (
    *("tool_calls", "function_call", "audio", "image", "images"),
    *("refusal", "reasoning", "reasoning_content", "thinking"),
)


class Message(TypedDict):
    """One turn of a conversation.

    Attributes:
        role: One of :data:`ROLES`.
        content: What was said.
    """

    role: str
    content: str


Messages = tuple[Message, ...]
Content = str | Messages
# What pandas writes for a column of lists, and what JSON is inside a cell.
_WRITTEN_OUT = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")


def turn(role: str, text: str) -> Messages:
    """A conversation of one message."""
    return (Message(role=role, content=text),)


def as_messages(content: Content) -> Messages:
    """A prompt for a model that chats: a text is one user's turn."""
    return turn("user", content) if isinstance(content, str) else content


def as_text(content: Content) -> str:
    """A prompt as one text, in which each message begins with its role.

    A conversation of one user's turn is that turn's text.
    """
    if isinstance(content, str):
        return content
    if len(content) == 1:
        return content[0]["content"]
    return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in content)


def joined_to(prompt: str, response: str) -> str:
    """A response as it stands behind a plain prompt: its text has lost the space before it."""
    return response if prompt[-1:].isspace() else f" {response}"


def read_prompt(value: Any) -> Content:
    """A prompt as a data set has it.

    Args:
        value: A text, or a list of messages that ends in a user's turn. A message's content is a
            text, or a list of parts ``{"type": "text", "text": ...}``, which are joined. Its
            keys may be ShareGPT's, ``from`` and ``value``; others are not read, see
            :func:`unread_keys`.

    Returns:
        The text, or the conversation.

    Raises:
        ValueError: It is neither; the message says what it is, to be put after its name.
    """
    if isinstance(value, str):
        if _WRITTEN_OUT.match(value):
            raise ValueError(
                "is a conversation written out as text, expected a list of messages, as in JSON "
                "lines or Parquet"
            )
        return value
    messages = _read_messages(value)
    if messages[-1]["role"] != "user":
        raise ValueError(
            f"ends in a turn of role {messages[-1]['role']!r}: what is asked ends in one of the "
            "user's"
        )
    return messages


def read_response(value: Any, prompt: Content = ()) -> str:
    """A response as a data set has it.

    Args:
        value: A text, or a list of one message of the assistant's, before which the prompt may
            stand again.
        prompt: The prompt.

    Raises:
        ValueError: It is neither; the message says what it is, to be put after its name.
    """
    if isinstance(value, str):
        return value
    messages = _read_messages(value, may_be_empty=True)
    asked = as_messages(prompt)
    if asked and messages[: len(asked)] == asked:
        messages = messages[len(asked) :]
    roles = [message["role"] for message in messages]
    if roles != ["assistant"]:
        raise ValueError(
            f"has messages of the roles {', '.join(roles) or 'none'}: expected text, or one "
            "message of role 'assistant', before which the prompt may stand"
        )
    return messages[0]["content"]


def found(value: Any) -> str:
    """Says what a value is that should be text, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return f"the {'truth value' if isinstance(value, bool) else 'number'} {value}"
    names = ((Mapping, "an object"), (list | tuple, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def check_characters(text: str) -> None:
    """Checks that a text can be written in UTF-8.

    Raises:
        ValueError: It has half of a pair of surrogates, which is no character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start].encode("unicode_escape").decode()
        raise ValueError(
            f"has half of a character ({half}, a lone surrogate) at place {error.start}"
        ) from error


def _read_messages(value: Any, *, may_be_empty: bool = False) -> Messages:
    if not isinstance(value, Sequence) or not value or not isinstance(value[0], Mapping):
        what = "an empty list" if value == [] else found(value)
        raise ValueError(
            f"is {what}, expected text or a conversation (a list of messages with role and content)"
        )
    messages = tuple(_read_message(i, message) for i, message in enumerate(value, start=1))
    for i, message in enumerate(messages, start=1):
        # An empty system message is the ecosystem's word for none.
        if message["role"] != "system" and not message["content"].strip() and not may_be_empty:
            raise ValueError(f"has no text in message {i} (role {message['role']!r})")
    return messages


def _read_message(number: int, message: Any) -> Message:
    name = f"message {number}"
    if not isinstance(message, Mapping):
        raise ValueError(f"has {found(message)} as {name}, expected role and content")
    lost = next((key for key in _SAID if message.get(key)), None)
    if lost is not None:
        raise ValueError(f"has {lost} in {name}: only text is read")
    keys = _keys_of(message)
    if keys is None:
        # Parquet gives every message the keys of all; what it makes up is null.
        given = [str(key) for key, value in message.items() if value is not None]
        raise ValueError(
            f"has a {name} with {', '.join(given) or 'nothing'}, expected role and content"
        )
    role, content = (message[key] for key in keys)
    role = _OTHER_NAMES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        names = (*ROLES, *_OTHER_NAMES)
        raise ValueError(f"has the role {role!r} in {name}, expected one of {', '.join(names)}")
    if isinstance(content, list):
        content = "".join(_read_part(name, part) for part in content)
    if not isinstance(content, str):
        raise ValueError(f"has {found(content)} as content of {name}, expected text")
    return Message(role=role, content=content)


def unread_keys(value: Any) -> set[str]:
    """Keys of a conversation's messages that say something and are not read, such as ``name``.

    Args:
        value: What :func:`read_prompt` takes; of anything but messages there are none.
    """
    if not isinstance(value, list):
        return set()
    return {
        str(key)
        for message in value
        if isinstance(message, Mapping)
        for key, said in message.items()
        # Zero and false say something; null and what is empty do not.
        if said not in (None, "", [], {}) and key not in (_keys_of(message) or ())
    }


def _keys_of(message: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((keys for keys in _KEYS if all(message.get(k) is not None for k in keys)), None)


def _read_part(name: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(text, str):
        what = found(part) if kind is None else f"a part of type {kind!r}"
        raise ValueError(f"has {what} in {name}: only text is read")
    return text
