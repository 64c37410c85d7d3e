"""People, who are asked on a page that the run serves; nobody can call them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from text_duel.errors import ConfigError, UnanswerableError, nearest
from text_duel.oracles.base import Oracle
from text_duel.oracles.gold import read_gold
from text_duel.prompts import Prompt
from text_duel.verdict_rules import LABEL_RULES

MAX_NAME = 40
MAX_RUBRIC_BYTES = 100_000
GOLD_SHARE = 0.05
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
        labels_by: How verdicts become a label: the first one decides (``single``), the share of
            votes (``majority``), or votes weighted by how reliable raters are (``reliability``);
            see :data:`text_duel.verdict_rules.LABEL_RULES`.
        raters_per_question: How many raters judge each question.
        overlap: The share of questions that one more rater judges, to see whether they agree.
        gold: A file of gold questions, see :func:`text_duel.oracles.gold.read_gold`.
        gold_share: How many of them a rater gets, per question for a label; None: 0.05 if there
            is a file.
        repeat_share: Likewise, questions that they have judged before.

    Attributes:
        options: What a page of the same log is made from later, in whatever folder that is.

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
        labels_by: str = "single",
        raters_per_question: int = 1,
        overlap: float = 0.0,
        gold: str | None = None,
        gold_share: float | None = None,
        repeat_share: float = 0.0,
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
        _check_raters_per_question(raters_per_question, overlap, len(raters))
        if labels_by not in LABEL_RULES:
            raise ConfigError(
                f"oracle_config.labels_by: {labels_by!r} is none of {', '.join(LABEL_RULES)}"
                f"{nearest(str(labels_by), LABEL_RULES)}"
            )
        if gold is None and gold_share is not None:
            raise ConfigError(f"oracle_config.gold_share: {gold_share!r} needs the file gold")
        gold_share = (GOLD_SHARE if gold else 0.0) if gold_share is None else gold_share
        for name, share in (("gold_share", gold_share), ("repeat_share", repeat_share)):
            _check_number(name, share, 0.0, 0.5)
        self.raters = tuple(raters)
        self.host = host
        self.port = port
        self.rubric = "" if rubric is None else read_rubric(rubric, "oracle_config.rubric")
        self.lease_s = float(lease_s)
        self.undo_s = float(undo_s)
        self.labels_by = labels_by
        self.raters_per_question = raters_per_question
        self.overlap = float(overlap)
        self.gold = () if gold is None else read_gold(gold)
        self.gold_share = float(gold_share)
        self.repeat_share = float(repeat_share)
        self.options: dict[str, Any] = {
            "rubric": None if rubric is None else _found_again(rubric),
            "lease_s": lease_s,
            "undo_s": undo_s,
            "labels_by": labels_by,
            "raters_per_question": raters_per_question,
            "overlap": overlap,
            "gold": None if gold is None else _found_again(gold),
            "gold_share": gold_share if gold else None,
            "repeat_share": repeat_share,
        }
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


def _check_raters_per_question(number: Any, overlap: float, num_raters: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigError(
            f"oracle_config.raters_per_question: {number!r} is not a whole number of at least 1"
        )
    if number + (overlap > 0) > num_raters:
        key = f"overlap: {overlap:g}" if number <= num_raters else f"raters_per_question: {number}"
        most = number + (overlap > 0)
        raise ConfigError(
            f"oracle_config.{key} needs {most} raters, raters names "
            f"{'one' if num_raters == 1 else num_raters}"
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


def _found_again(file: str) -> str:
    """A file's full path; the name of what is shipped."""
    path = Path(file).expanduser()
    return str(path.absolute()) if path.exists() else file


def _check_number(key: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or not math.isfinite(value):
        expected = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(f"oracle_config.{key}: {value!r} is not a number {expected}")
