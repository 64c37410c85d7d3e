"""What the text of a response alone tells: whether it repeats itself, whether it copies.

A policy that is optimised too far shows it here while its win rate still rises.
"""

from __future__ import annotations

_WORDS = 3


def repeated_share(response: str) -> float:
    """The share of a response's word trigrams that stood in it before; 0 of one without any.

    Its complement is known as distinct-3 (Li et al., arXiv 1510.03055, there per corpus).

    Args:
        response: The text.
    """
    found = _trigrams(response)
    return 1.0 - len(set(found)) / len(found) if found else 0.0


def copied_share(response: str, prompt: str) -> float:
    """The share of a response's word trigrams that stand in its prompt; 0 of one without any.

    Args:
        response: The text.
        prompt: What it responds to.
    """
    found, there = _trigrams(response), set(_trigrams(prompt))
    return sum(trigram in there for trigram in found) / len(found) if found else 0.0


def _trigrams(text: str) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + _WORDS]) for i in range(len(words) - _WORDS + 1)]
