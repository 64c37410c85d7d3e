"""The secret links of raters: a file beside the log, for its owner's eyes only."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from text_duel.errors import ConfigError

_MODE = 0o600


def raters_file(log: Path) -> Path:
    """The file that holds a log's raters."""
    return log.with_name(f"{log.name}.raters.json")


class Raters:
    """Names, tokens, where their page is served, and how they are asked.

    Another process may add raters to the file: they are known here at once.

    Args:
        log: The preference log's file.
    """

    def __init__(self, log: Path) -> None:
        self.path = raters_file(log)
        self._read_at: tuple[int, int] | None = None
        self._tokens: dict[str, str] = {}
        self._address: dict[str, Any] = {}
        self._options: dict[str, Any] = {}
        self._read()

    @property
    def names(self) -> list[str]:
        """All raters."""
        return list(self._tokens)

    @property
    def port(self) -> int | None:
        """The port on which the page was served last."""
        return self._address.get("port")

    @property
    def options(self) -> dict[str, Any]:
        """How they were asked last, see :attr:`text_duel.oracles.people.PeopleOracle.options`."""
        return self._options

    def invite(self, names: Iterable[str]) -> None:
        """Makes sure that raters have a token; those that have one keep it."""
        self._read()
        new = [name for name in names if name not in self._tokens]
        if new:
            self._tokens |= {name: secrets.token_urlsafe(24) for name in new}
            self._write()

    def served_at(self, host: str, port: int, options: Mapping[str, Any]) -> None:
        """Notes where the page is, and how they are asked."""
        self._read()
        before = self._address, self._options
        self._address, self._options = {"host": host, "port": port}, dict(options)
        if (self._address, self._options) != before:
            self._write()

    def links(self) -> dict[str, str]:
        """The secret link of each rater.

        The token stands behind the ``#``: browsers send that to no server, so that it gets into no
        log on the way.
        """
        host, port = self._address["host"], self._address["port"]
        name = {"0.0.0.0": _own_name(), "::": _own_name()}.get(host, host)
        name = f"[{name}]" if ":" in name else name
        return {rater: f"http://{name}:{port}/#{token}" for rater, token in self._tokens.items()}

    def rater_of(self, token: str) -> str | None:
        """Whose token it is; None: nobody's."""
        found = self._find(token)
        if found is None and self._changed():
            self._read()
            found = self._find(token)
        return found

    def _find(self, token: str) -> str | None:
        given, found = token.encode("utf-8", "replace"), None
        for name, own in self._tokens.items():  # all of them: the time says nothing
            if hmac.compare_digest(own.encode(), given):
                found = name
        return found

    def _changed(self) -> bool:
        return self._stamp() != self._read_at

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino

    def _read(self) -> None:
        stamp = self._stamp()
        if stamp is None or stamp == self._read_at:
            return
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self._tokens = {str(name): str(token) for name, token in found["tokens"].items()}
            self._address = dict(found["address"])
            self._options = dict(found.get("options", {}))  # earlier versions wrote none
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self.path} cannot be read: {type(error).__name__}: {error}; without it, new "
                "links are made"
            ) from error
        self._read_at = stamp

    def _write(self) -> None:
        found = {"address": self._address, "options": self._options, "tokens": self._tokens}
        text = json.dumps(found, indent=1)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "w") as out:
                out.write(text)
            os.replace(part, self.path)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}") from error
        self._read_at = self._stamp()


def _own_name() -> str:
    return os.uname().nodename
