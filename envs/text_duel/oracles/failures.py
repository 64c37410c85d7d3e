"""Which failures of an oracle pass by themselves, and which would come again."""

from __future__ import annotations

from text_duel.errors import BrokenOracleError, UnanswerableError

# What an oracle's own code does wrong with a question, it does wrong with it again.
_FINAL = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BrokenOracleError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    UnanswerableError,
    ValueError,
)
# HTTP: timed out, in conflict, too early, too many requests.
_PASSING_STATUS = (408, 409, 425, 429)


def is_final(error: BaseException) -> bool:
    """Whether the same question would fail in the same way if it were asked again.

    So do programming errors, and what a server refuses (HTTP 4xx, but for time-outs and limits).
    What has to do with the outside may pass: connections, time-outs, a server's own errors, a reply
    that was cut short, memory.
    """
    status = _http_status(error)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING_STATUS
    # A reply that cannot be decoded was cut short, or is another one the next time.
    passing = isinstance(error, OSError | UnicodeError) or type(error).__name__ == "JSONDecodeError"
    return isinstance(error, _FINAL) and not passing


def _http_status(error: BaseException) -> int | None:
    """The HTTP status that an error of any client library carries."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None
