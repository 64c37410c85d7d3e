"""A simulated reader of summaries: a formula on words and characters, without any model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from text_duel.errors import OracleError
from text_duel.oracles.base import ScoringOracle
from text_duel.prompts import Prompt

CLOSENESS_WEIGHT = 24.0
LENGTH_WEIGHT = 1.5
COPYING_WEIGHT = 6.0
CUT_WEIGHT = 3.0
# chrF as published: character n-grams up to 6, recall counts twice.
CHRF_ORDER, CHRF_BETA = 6, 2.0
SHORT_WORDS, BRIEF_WORDS, LONG_WORDS = 6, 20, 40
COPIED_RUN = 5  # words in a row that stand in the post, too
_WORD = re.compile(r"[\w']+")
_CLOSING = "\"')\u201d\u2019"


class ReaderOracle(ScoringOracle):
    """Likes what says the same as the reference in one or two whole sentences of its own words.

    The score is a sum of four terms, by which a pair's log-odds differ::

        24 chrf(response, reference)     what it says, by character n-grams
        + 1.5 length_score(response)     neither a stub nor a retelling
        - 6 copying(response, post)      words taken over in runs of five and more
        - 3 is_cut(response)             it does not end where a sentence ends

    No term is an embedding: an ensemble reward model on embeddings has to learn them. An empty
    response scores -9, the formula's lower bound.

    Every prompt needs a reference.
    """

    name = "reader(chrF=24, length=1.5, copying=-6, cut=-3, version=1)"
    needs_references = True

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        return np.array(
            [self._score(*each) for each in zip(prompts, responses, strict=True)], dtype=np.float64
        )

    @staticmethod
    def _score(prompt: Prompt, response: str) -> float:
        if prompt.reference is None:
            raise OracleError(f"prompt {prompt.id!r} has no reference to compare with")
        if not response.strip():
            return -(COPYING_WEIGHT + CUT_WEIGHT)
        return (
            CLOSENESS_WEIGHT * chrf(response, prompt.reference)
            + LENGTH_WEIGHT * length_score(response)
            - COPYING_WEIGHT * copying(response, prompt.post)
            - CUT_WEIGHT * is_cut(response)
        )


def chrf(response: str, reference: str) -> float:
    """The character n-gram F-score of Popovic (2015), "chrF: character n-gram F-score".

    Args:
        response: A text.
        reference: What it should say.

    Returns:
        In [0, 1]: F with beta = 2 of precision and recall, each the mean over n = 1 to 6 of the
        share of n-grams, white space left out, that the other text has, too. Orders that a text is
        too short for are left out.
    """
    ours, theirs = _ngrams(response), _ngrams(reference)
    precisions, recalls = [], []
    for our, their in zip(ours, theirs, strict=True):
        if our and their:
            shared = sum((our & their).values())
            precisions.append(shared / sum(our.values()))
            recalls.append(shared / sum(their.values()))
    if not precisions or not any(precisions):
        return 0.0
    precision, recall = np.mean(precisions), np.mean(recalls)
    square = CHRF_BETA**2
    return float((1 + square) * precision * recall / (square * precision + recall))


@lru_cache(maxsize=4096)
def _ngrams(text: str) -> tuple[Counter[str], ...]:
    joined = "".join(text.split())
    return tuple(
        Counter(joined[i : i + n] for i in range(len(joined) - n + 1))
        for n in range(1, CHRF_ORDER + 1)
    )


def length_score(response: str) -> float:
    """1 from 6 to 20 words; falls linearly to 0 at none and at 40 words and beyond."""
    words = len(response.split())
    if words < SHORT_WORDS:
        return words / SHORT_WORDS
    return float(np.clip((LONG_WORDS - words) / (LONG_WORDS - BRIEF_WORDS), 0.0, 1.0))


def copying(response: str, post: str) -> float:
    """The share of a response's words, in [0, 1], that stand in runs of five words of the post."""
    words, source = (_WORD.findall(text.lower()) for text in (response, post))
    runs = {tuple(source[i : i + COPIED_RUN]) for i in range(len(source) - COPIED_RUN + 1)}
    copied = np.zeros(len(words), dtype=bool)
    for i in range(len(words) - COPIED_RUN + 1):
        if tuple(words[i : i + COPIED_RUN]) in runs:
            copied[i : i + COPIED_RUN] = True
    return float(copied.mean()) if words else 0.0


def is_cut(response: str) -> bool:
    """Whether a response ends elsewhere than at a sentence's end, quotes and brackets aside."""
    return not response.rstrip().rstrip(_CLOSING).endswith((".", "!", "?"))
