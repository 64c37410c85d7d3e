"""The bundled posts, cut into prompts and into what the decoder is fitted to."""

from __future__ import annotations

import json
import re
from pathlib import Path

from text_duel.sources import find_source

SOURCE = "tldr_mini"
# Words of a sentence that a prompt shows.
PROMPT_WORDS = (3, 5)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")


def posts(split: str) -> list[list[str]]:
    """The sentences of each post of a split, its summary as one more text of one sentence.

    Args:
        split: ``"train"`` or ``"test"``.
    """
    texts = []
    for _, row in find_source(SOURCE, split).rows():
        texts.append(_SENTENCE_END.split(str(row["post"])))
        texts.append([str(row["summary"])])
    return texts


def prompt_rows(split: str) -> list[dict[str, str]]:
    """Openings of sentences, to be continued, each with its continuation as the reference.

    A sentence of enough words gives a prompt for each of :data:`PROMPT_WORDS`; of the test
    posts, that are only measured on, the longer ones alone.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        Rows with ``id``, ``post`` and ``reference``.
    """
    lengths = PROMPT_WORDS if split == "train" else PROMPT_WORDS[-1:]
    found: dict[str, str] = {}  # equal openings stand once, with the first continuation
    for sentences in posts(split):
        for sentence in sentences:
            words = sentence.split()
            for length in lengths:
                if len(words) > length:
                    found.setdefault(" ".join(words[:length]), " ".join(words[length:]))
    return [
        {"id": f"{split}-{number:04d}", "post": opening, "reference": rest}
        for number, (opening, rest) in enumerate(found.items())
    ]


def write_prompts(folder: Path) -> None:
    """Writes ``train.jsonl`` and ``test.jsonl`` of :func:`prompt_rows` into a folder."""
    for split in ("train", "test"):
        lines = [json.dumps(row) + "\n" for row in prompt_rows(split)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
