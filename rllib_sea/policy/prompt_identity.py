"""Which prompt is which: by what it says, not by its place or by an id that was made up. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from text_duel.prompts import Prompt

_DIGEST_BYTES = 8


def text_digest(text: str) -> str:
    """16 hexadecimal digits that stand for a text, the same on every machine (BLAKE2b)."""
    return hashlib.blake2b(
        text.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES
    ).hexdigest()


def is_in_share(text: str, share: float) -> bool:
    """Whether a text is of a share of all texts: decided by itself, whatever stands beside it.

    Args:
        text: The text.
        share: In (0, 1). A larger share has all texts of a smaller one.
    """
    return int(text_digest(text), 16) < share * 256**_DIGEST_BYTES


class PromptIndex:
    """Finds prompts by their texts.

    Args:
        prompts: Those to be found; several may have one text.
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._exact = {(prompt.id, prompt.text): prompt for prompt in prompts}
        self._first = {prompt.text: prompt for prompt in reversed(prompts)}

    def find(self, prompt_id: str, text: str) -> Prompt | None:
        """The prompt of a text; None if there is none.

        Args:
            prompt_id: Chooses among prompts of this text, which may differ in their references.
                If none of them has it, the first is taken.
            text: The text.
        """
        return self._exact.get((prompt_id, text)) or self._first.get(text)


@dataclass(frozen=True)
class Fingerprint:
    """By what a run knows its prompts again.

    Attributes:
        training: :func:`text_digest` of each training prompt, in order.
        held_out: Likewise of the held-out prompts.
        columns: Stands for all else that an oracle sees of them: columns and references.
    """

    training: Sequence[str]
    held_out: Sequence[str]
    columns: str

    @classmethod
    def of(cls, training: Sequence[Prompt], held_out: Sequence[Prompt]) -> Self:
        """The fingerprint of a run's prompts."""
        columns = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for prompt in (*training, *held_out):
            seen = [prompt.reference, sorted(prompt.fields.items())]
            columns.update(json.dumps(seen).encode())
        return cls(
            [text_digest(prompt.text) for prompt in training],
            [text_digest(prompt.text) for prompt in held_out],
            columns.hexdigest(),
        )

    def difference(self, now: Fingerprint) -> str | None:
        """What has changed since this one was taken, for messages; None if nothing has."""
        found = []
        for name, old, new in (
            ("training", self.training, now.training),
            ("held-out", self.held_out, now.held_out),
        ):
            num_gone = (Counter(old) - Counter(new)).total()
            num_new = (Counter(new) - Counter(old)).total()
            if num_gone or num_new:
                found.append(
                    f"of {len(old)} {name} prompts {num_gone} are gone or edited, "
                    f"{num_new} are new or edited"
                )
            elif list(old) != list(new):
                found.append(f"the {len(old)} {name} prompts stand in another order")
        if not found and self.columns != now.columns:
            found.append("the prompts' texts are the same, their references or columns are not")
        return "; ".join(found) or None

    def num_trained_on(self, now: Fingerprint) -> int:
        """How many prompts that are held out now were training prompts then."""
        trained_on = set(self.training)
        return sum(digest in trained_on for digest in now.held_out)
