"""People, who are asked on a page that the run serves; nobody can call them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from text_duel.errors import ConfigError, UnanswerableError
from text_duel.oracles.base import Oracle
from text_duel.prompts import Prompt

MAX_NAME = 40
MAX_RUBRIC_BYTES = 100_000
# Those that are shipped.
RUBRICS = Path(__file__).parent / "rubrics"


class PeopleOracle(Oracle):
    """People who label in their browsers.

    It answers nothing itself: whoever asks questions puts them before people.

    Args:
        raters: Their names, each with a link of its own.
        host: The address that the page is served on; the loopback one is this machine's alone.
        port: Its port; 0: a free one, which stays the log's.
        rubric: A Markdown file that says what is better, for the page's help; or ``tldr``, which is
            shipped.
        lease_s: Seconds after which a question that somebody has before them may be given to
            another.
        undo_s: Seconds that a round waits after its last answer, in which that can be undone.
        overlap: The share of questions that are put to a second rater, to see whether they agree.

    Raises:
        ConfigError: A value is none of these.
    """

    asks_people = True

    def __init__(
        self,
        raters: Sequence[str] = ("me",),
        host: str = "127.0.0.1",
        port: int = 0,
        rubric: str | None = None,
        lease_s: float = 600.0,
        undo_s: float = 5.0,
        overlap: float = 0.0,
    ) -> None:
        if isinstance(raters, str) or not isinstance(raters, Sequence) or not raters:
            raise ConfigError(f"oracle_config.raters: {raters!r} is not a list of one name or more")
        for name in raters:
            check_rater(name, "oracle_config.raters")
        if len(set(raters)) < len(raters):
            raise ConfigError(f"oracle_config.raters: {list(raters)!r} has a name twice")
        if not isinstance(host, str) or not host:
            raise ConfigError(f"oracle_config.host: {host!r} is not an address")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
            raise ConfigError(f"oracle_config.port: {port!r} is not a whole number in [0, 65535]")
        _check_number("lease_s", lease_s, 1.0, math.inf)
        _check_number("undo_s", undo_s, 0.0, math.inf)
        _check_number("overlap", overlap, 0.0, 1.0)
        if overlap and len(raters) < 2:
            raise ConfigError(f"oracle_config.overlap: {overlap:g} needs a second rater")
        self.raters = tuple(raters)
        self.host = host
        self.port = port
        self.rubric = "" if rubric is None else read_rubric(rubric, "oracle_config.rubric")
        self.lease_s = float(lease_s)
        self.undo_s = float(undo_s)
        self.overlap = float(overlap)
        digest = hashlib.sha256(self.rubric.encode()).hexdigest()[:8]
        self.name = f"people(rubric={digest})" if self.rubric else "people"

    @classmethod
    def check_config(cls, **config: Any) -> None:
        cls(**config)  # loads nothing

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """People cannot be called.

        Raises:
            UnanswerableError: Always.
        """
        raise UnanswerableError(
            "oracle people is asked on a page, by `rllib train file` or `rllib-sea label`: it "
            "cannot be called"
        )


def check_rater(name: Any, key: str) -> None:
    """Checks a rater's name.

    Args:
        name: The name.
        key: Where it was written.

    Raises:
        ConfigError: It is no short text of one line.
    """
    good = isinstance(name, str) and name.strip() == name and name.isprintable()
    if not good or not 1 <= len(name) <= MAX_NAME:
        raise ConfigError(
            f"{key}: {name!r} is not a name of 1 to {MAX_NAME} characters in one line"
        )


def read_rubric(file: Any, key: str) -> str:
    """Reads a rubric.

    Args:
        file: A Markdown file, or the name of a shipped one.
        key: Where it was written.

    Raises:
        ConfigError: It cannot be read, or is empty.
    """
    if not isinstance(file, str | Path):
        raise ConfigError(f"{key}: {file!r} is not the name of a Markdown file")
    path = Path(file).expanduser()
    shipped = RUBRICS / f"{file}.md"
    if path.name == str(file) and shipped.is_file() and not path.exists():
        path = shipped
    try:
        if path.stat().st_size > MAX_RUBRIC_BYTES:
            raise ConfigError(
                f"{key}: {path.absolute()} has more than {MAX_RUBRIC_BYTES // 1000} kB"
            )
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{key}: {path.absolute()}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path.absolute()} is no text in UTF-8") from error
    if not text:
        raise ConfigError(f"{key}: {path.absolute()} is empty")
    return text


def _check_number(key: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or not math.isfinite(value):
        expected = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(f"oracle_config.{key}: {value!r} is not a number {expected}")
