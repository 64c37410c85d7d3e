"""The package's exceptions, and the hint at the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Something the user configured is wrong.

    The message is one line: the key, its value, what was expected, where it was looked for.
    """


class OracleError(RuntimeError):
    """The oracle could not answer. The message names it; no label was made up."""


class UnanswerableError(OracleError):
    """The oracle can never answer this question: nobody asks it again."""


class BrokenOracleError(OracleError):
    """The oracle does not keep its interface: nothing that it says is used until it is mended."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Hints at the valid name that is closest to a wrong one.

    Args:
        name: What the user wrote.
        valid: The names that exist.

    Returns:
        ``" (did you mean 'x'?)"``, or ``""`` if nothing is close.
    """
    matches = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def one_line(error: Exception) -> str:
    """What an error says, in one line of a readable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:400] + " ..."
