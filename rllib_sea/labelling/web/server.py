"""Serves an application in the event loop that is there."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from text_duel.errors import ConfigError

# What a page that listens is given to hear of the end.
_END_S = 2


class _Server(uvicorn.Server):
    """Leaves signals to the process: it is not the server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, preferred: int | None) -> socket.socket:
    """Opens a port.

    Args:
        host: The address.
        port: The port; 0: the preferred one if it is free, else another.
        preferred: See ``port``.

    Raises:
        ConfigError: It is taken, or there is no such address.
    """
    tries = [port] if port else [p for p in (preferred, 0) if p is not None]
    for number in tries:
        try:
            family, *_, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            found = socket.socket(family, socket.SOCK_STREAM)
            try:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                found.bind(address)
                found.listen(128)
            except OSError:
                found.close()
                raise
            return found
        except OSError as error:
            if number == tries[-1]:
                raise ConfigError(
                    f"oracle_config.port: the page cannot be served on {host}:{number}: "
                    f"{error.strerror or error}"
                ) from error
    raise AssertionError("one is tried")


class PageServer:
    """uvicorn, as a task.

    Args:
        app: The application.
        listening: The open port.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket) -> None:
        self.port: int = listening.getsockname()[1]
        # Without an access log: there is no place that a token could be written to.
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_END_S,
            timeout_keep_alive=30,
        )
        self._server = _Server(config)
        self._listening = listening
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to serve."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listening]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Ends it, once the requests that are there are answered."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_END_S + 3)
        self._listening.close()
