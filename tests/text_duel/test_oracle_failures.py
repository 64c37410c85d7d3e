"""Which failures of an oracle would come again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.error import HTTPError

import pytest

from text_duel import UnanswerableError
from text_duel.oracles import is_final


class ClientError(Exception):
    """As of a client library: its status on it, or on its response."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


def decode_error() -> Exception:
    try:
        json.loads("<html>")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (TypeError(), True),
        (KeyError("choices"), True),
        (IndexError(), True),
        (ValueError(), True),
        (ZeroDivisionError(), True),
        (AttributeError(), True),
        (UnanswerableError("too long"), True),
        (ConnectionError(), False),
        (TimeoutError(), False),
        (OSError(), False),
        (RuntimeError("CUDA out of memory"), False),
        (MemoryError(), False),
        (decode_error(), False),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "cut"), False),
        (ClientError(status_code=401), True),
        (ClientError(status=404), True),
        (ClientError(status_code=429), False),
        (ClientError(status_code=408), False),
        (ClientError(status_code=503), False),
        (ClientError(response=SimpleNamespace(status_code=400)), True),
        (ClientError(code=lambda: 400), False),
        (HTTPError("http://judge", 403, "no", None, None), True),  # type: ignore[arg-type]
        (HTTPError("http://judge", 502, "no", None, None), False),  # type: ignore[arg-type]
    ],
)
def test_what_would_come_again(error: Exception, final: bool) -> None:
    assert is_final(error) is final
