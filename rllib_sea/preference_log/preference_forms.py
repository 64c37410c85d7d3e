"""The forms in which others write preferences, known by their columns.

TRL's explicit and implicit prompts (plain and conversational), UltraFeedback (binarized), HH-RLHF,
what Argilla and distilabel export, and two responses with a label. See docs/preferences.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rllib_sea.preference_log.written_preferences import CHOSEN, Preference
from text_duel.conversations import Content, as_text, check_characters, read_prompt, read_response
from text_duel.errors import ConfigError, nearest
from text_duel.verdicts import Label

# What a column holds, and the names that it has where nobody says another.
ROLES = {
    "prompt": ("prompt", "instruction", "question", "input"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response"),
    "first": ("first",),
    "second": ("second",),
    "label": ("label",),
    "responses": ("responses", "generations", "completions"),
    "ratings": ("ratings",),
    "rankings": ("rankings", "ranks"),
}
TIE = Label(0.5)
# A prompt, two responses, and how much the first of them is preferred; None: nobody has said.
Read = tuple[Content, str, str, Label | None]
# Of `label`: the probability that the first response is preferred.
_LABELS = {"1": 1.0, "first": 1.0, "0": 0.0, "second": 0.0, "tie": 0.5, "0.5": 0.5}
# Tokens that end a response in one model or another, where somebody has written them as text.
END_TOKENS = (
    *("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>"),
    *("<end_of_turn>", "<eos>", "<|end_of_turn|>", "<|eom_id|>"),
)
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


class LeftOut(Exception):
    """A row that is as it should be, and of which nothing can be learned here; says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form, as it stands in a file.

    Attributes:
        columns: The file's columns by their roles.
        others: Columns that are not read.
        read: Makes the prompt, two responses and the label of a row's values, by role.
    """

    columns: Mapping[str, str]
    others: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Read]

    def __str__(self) -> str:
        names = (
            role if role == name else f"{role} ({name})" for role, name in self.columns.items()
        )
        not_read = f"; not read: {', '.join(self.others)}" if self.others else ""
        return f"{', '.join(names)}{not_read}"

    def preference(self, row: Any, place: str) -> tuple[Preference, int]:
        """A row as a preference.

        Args:
            row: What stands in the file.
            place: Where.

        Returns:
            The preference, and how many of its responses have lost an end token.

        Raises:
            ConfigError: It is not of this form; names the place.
            LeftOut: It holds no preference that could be learned from.
        """
        try:
            for name in self.columns.values():
                if not isinstance(row, Mapping):
                    raise ConfigError(f"expected an object, found {type(row).__name__}")
                if name not in row:
                    raise ConfigError(f"there is no column {name!r}{nearest(name, row)}")
            values = {role: row[name] for role, name in self.columns.items()}
            prompt, chosen, rejected, label = self.read(values)
            for role, text in (
                ("prompt", as_text(prompt)),
                ("chosen", chosen),
                ("rejected", rejected),
            ):
                _check(role, text)
            if not as_text(prompt).strip():
                raise ConfigError("prompt is empty")
            whole = chosen.strip(), rejected.strip()
            chosen, rejected = (without_end(text, END_TOKENS) for text in whole)
            if chosen == rejected:
                raise ConfigError("chosen and rejected are the same text")
        except ConfigError as error:
            raise ConfigError(f"preferences: {place}: {error}") from error
        num_ended = (chosen != whole[0]) + (rejected != whole[1])
        return Preference(prompt, chosen, rejected, place, label), num_ended


def find_form(row: Any, place: str, columns: Mapping[str, str]) -> Form:
    """The form of a file, by its first row.

    Args:
        row: The row.
        place: Where it stands.
        columns: Names that are given for roles; the others have those of :data:`ROLES`.

    Raises:
        ConfigError: It is none that is known.
    """
    if not isinstance(row, Mapping):
        raise ConfigError(f"preferences: {place}: expected an object, found {type(row).__name__}")
    for role, name in columns.items():
        if role not in ROLES:
            raise ConfigError(f"columns: unknown role {role!r}{nearest(role, ROLES)}")
        if name not in row:
            raise ConfigError(
                f"columns: {role}: {place} has no column {name!r}{nearest(name, row)}"
            )
    found = {role: name for role, names in ROLES.items() for name in names[::-1] if name in row}
    found |= columns
    for roles, read in _FORMS.items():
        if found.keys() >= set(roles):
            used = {role: found[role] for role in roles}
            return Form(used, tuple(name for name in row if name not in used.values()), read)
    missing = [role for role in ("prompt", "chosen", "rejected") if role not in found]
    raise ConfigError(
        f"preferences: {place}: there is no column {missing[0]!r}{nearest(missing[0], row)}; "
        f"there are {', '.join(map(str, row)) or 'none'}; expected "
        f"{' or '.join(', '.join(roles) for roles in _FORMS)}"
    )


def _check(role: str, text: str) -> None:
    try:
        check_characters(text)
    except ValueError as error:
        raise ConfigError(f"{role} {error}") from error


# -- Forms ------------------------------------------------------------------------------------


def _explicit(values: Mapping[str, Any]) -> Read:
    """A prompt beside both responses, which may begin with it."""
    prompt = _prompt(values["prompt"])
    both = [values["chosen"], values["rejected"]]
    texts = [_response(values[name], name, prompt) for name in ("chosen", "rejected")]
    if prompt and all(isinstance(v, str) and v.startswith(str(prompt)) for v in both):
        texts = [text[len(prompt) :] for text in texts]
    return prompt, texts[0], texts[1], CHOSEN


def _implicit(values: Mapping[str, Any]) -> Read:
    """Two conversations or transcripts, which begin with their prompt."""
    chosen, rejected = values["chosen"], values["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        same = [one == other for one, other in zip(chosen, rejected, strict=False)]
        num = same.index(False) if False in same else len(same) - 1
        prompt = _prompt(chosen[:num], "what chosen and rejected begin with")
        texts = [
            _response(value[num:], f"{name} after message {num}")
            for name, value in (("chosen", chosen), ("rejected", rejected))
        ]
        return prompt, texts[0], texts[1], CHOSEN
    for name, value in values.items():
        if not isinstance(value, str) or ASSISTANT not in value:
            raise ConfigError(
                f"{name}: expected messages, or a transcript of Human: and Assistant: "
                "that begins with the prompt, since there is no column 'prompt'"
            )
    end = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if end is None:
        end = min(len(chosen), len(rejected))
    # Responses may begin alike: the prompt ends where both begin to answer.
    end = chosen.rfind(ASSISTANT, 0, end) + len(ASSISTANT)
    if end < len(ASSISTANT):
        raise ConfigError("chosen and rejected do not begin with the same prompt")
    if HUMAN in chosen[end:] or HUMAN in rejected[end:]:
        raise LeftOut("the two differ before the last response")
    return chosen[:end], chosen[end:], rejected[end:], CHOSEN


def _labelled(values: Mapping[str, Any]) -> Read:
    """Two responses with a label."""
    label = values["label"]
    if isinstance(label, float | int):  # true is 1
        label = f"{float(label):g}"
    preference = _LABELS.get(str(label).strip().lower())
    if preference is None:
        raise ConfigError(
            f"label: {values['label']!r} is none of 1 (or first: the first is preferred), 0 (or "
            "second), tie"
        )
    prompt = _prompt(values["prompt"])
    texts = [_response(values[name], name, prompt) for name in ("first", "second")]
    if preference == 0.0:
        texts.reverse()
    return prompt, texts[0], texts[1], TIE if preference == 0.5 else CHOSEN


def _unjudged(values: Mapping[str, Any]) -> Read:
    """Two responses that somebody is to judge."""
    prompt = _prompt(values["prompt"])
    first, second = (_response(values[name], name, prompt) for name in ("first", "second"))
    return prompt, first, second, None


def _judged(kind: str, sign: float) -> Callable[[Mapping[str, Any]], Read]:
    """Any number of responses with a number each: the best against the worst."""

    def read(values: Mapping[str, Any]) -> Read:
        responses, numbers = values["responses"], values[kind]
        for name, value in (("responses", responses), (kind, numbers)):
            if not isinstance(value, list) or len(value) != len(responses):
                raise ConfigError(f"{name}: expected a list, one for each response")
        known = [
            (sign * float(number), i)
            for i, number in enumerate(numbers)
            if isinstance(number, int | float) and math.isfinite(number)
        ]
        if len(known) < 2:
            raise LeftOut(f"fewer than two responses have {kind}")
        best = max(known, key=lambda pair: (pair[0], -pair[1]))
        worst = min(known)
        if best[0] == worst[0]:
            raise LeftOut(f"all {kind} are equal")
        prompt = _prompt(values["prompt"])
        chosen, rejected = (
            _response(responses[i], f"responses, number {i + 1}", prompt) for _, i in (best, worst)
        )
        return prompt, chosen, rejected, CHOSEN

    return read


# By their roles. The first of which a file has all columns is its form.
_FORMS: dict[tuple[str, ...], Callable[[Mapping[str, Any]], Read]] = {
    ("prompt", "chosen", "rejected"): _explicit,
    ("prompt", "first", "second", "label"): _labelled,
    ("prompt", "responses", "ratings"): _judged("ratings", 1.0),
    ("prompt", "responses", "rankings"): _judged("rankings", -1.0),
    ("chosen", "rejected"): _implicit,
    ("prompt", "first", "second"): _unjudged,
}


def _prompt(value: Any, name: str = "prompt") -> Content:
    try:
        prompt = read_prompt(value)
    except ValueError as error:
        raise ConfigError(f"{name} {error}") from error
    # What one user's turn says is a text to every run.
    return prompt if len(prompt) > 1 else as_text(prompt)


def _response(value: Any, name: str, prompt: Content = ()) -> str:
    try:
        return read_response(value, prompt)
    except ValueError as error:
        raise ConfigError(f"{name} {error}") from error


def without_end(text: str, end_tokens: Iterable[str]) -> str:
    """A response's text without the white space around it, and without end tokens at its end."""
    text = text.strip()
    while end := next((token for token in end_tokens if text.endswith(token)), None):
        text = text.removesuffix(end).rstrip()
    return text
