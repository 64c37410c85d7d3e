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


def write_prompts(folder: Path) -> None:
    """Writes ``train.jsonl`` and ``test.jsonl``: openings of sentences, to be continued.

    A sentence of enough words gives a prompt for each of :data:`PROMPT_WORDS`; of the test
    posts, that are only measured on, the longer ones alone. Rows have ``id`` and ``post``.

    Args:
        folder: Where to; it exists.
    """
    for split, lengths in (("train", PROMPT_WORDS), ("test", PROMPT_WORDS[-1:])):
        rows: dict[str, None] = {}  # equal openings stand once
        for sentences in posts(split):
            for sentence in sentences:
                words = sentence.split()
                for length in lengths:
                    if len(words) > length:
                        rows[" ".join(words[:length])] = None
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for number, opening in enumerate(rows):
                file.write(json.dumps({"id": f"{split}-{number:04d}", "post": opening}) + "\n")
