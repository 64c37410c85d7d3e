"""What stands between the page and the network: limits, and headers for browsers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 16_384
# Buckets that are remembered.
_MOST = 4096

HEADERS = {
    # The page has files of its own alone; texts of models are text, whatever they contain.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Limit:
    """So many requests per second from each, and some more at once.

    Args:
        per_second: How many, in the long run.
        at_once: How many may come together.
        clock: The time, in seconds.
    """

    def __init__(
        self, per_second: float, at_once: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> bool:
        """Whether somebody may make a request now; counts it."""
        now = self._clock()
        left, since = self._buckets.pop(who, (float(self._at_once), now))
        left = min(self._at_once, left + (now - since) * self._per_second)
        may = left >= 1.0
        self._buckets[who] = (left - may, now)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return may


class Guard:
    """Adds :data:`HEADERS` to every response, and refuses bodies that are too long.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return  # there are no web sockets

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        body = await _whole_body(receive)
        if body is None:
            await _refuse(guarded)
            return
        told = False

        async def replay() -> Message:
            nonlocal told
            if not told:
                told = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._app(scope, replay, guarded)


async def _whole_body(receive: Receive) -> bytes | None:
    """A request's body; None if it is too long."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":  # gone
            return body
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body


async def _refuse(send: Send) -> None:
    text = f'{{"message": "a request may have {MAX_BODY_BYTES} bytes at most"}}'.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text})
