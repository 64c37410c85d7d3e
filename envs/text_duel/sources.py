"""Where rows of prompts come from: the bundled set, JSON lines, Hugging Face data sets."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from text_duel.errors import ConfigError, nearest

DATA_FOLDER = Path(__file__).parent / "data"
BUNDLED = ("tldr_mini",)
_HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?")


class RowSource(Protocol):
    """Rows, each with the place it stands at for error messages."""

    @property
    def description(self) -> str:
        """What is read, for error messages."""

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields (place, columns), in order.

        Raises:
            ConfigError: A row cannot be read.
        """


@dataclass(frozen=True, slots=True)
class JsonLinesSource:
    """A file with one JSON object per line, in UTF-8. Blank lines are skipped.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def description(self) -> str:
        """The file's full path."""
        return str(self.path.absolute())

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields (``file:line``, columns)."""
        # Bytes are split at newlines only: str.splitlines would also split at characters
        # that JSON allows inside strings.
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                place = f"{self.path}:{number}"
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except ValueError as error:
                    raise ConfigError(f"prompts: {place}: not valid JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ConfigError(
                        f"prompts: {place}: expected a JSON object, found {type(row).__name__}"
                    )
                yield place, row


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the Hugging Face hub, or in its local cache.

    Attributes:
        name: ``owner/name``.
        configuration: The data set's configuration (subset), if it has several.
        split: The split.
    """

    name: str
    configuration: str | None
    split: str

    @property
    def description(self) -> str:
        """Name, configuration and split."""
        configuration = f", configuration {self.configuration}" if self.configuration else ""
        return f"{self.name} (split {self.split}{configuration})"

    def check(self) -> None:
        """Raises ConfigError if the package that reads data sets is missing."""
        if importlib.util.find_spec("datasets") is None:
            raise ConfigError(
                f"prompts: {self.name!r} is no bundled set ({', '.join(BUNDLED)}) and no path "
                f"(looked for {Path(self.name).absolute()}), and to read it as a Hugging Face "
                "data set the package `datasets` is missing: "
                'pip install "rllib-sea[datasets]"'
            )

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields (``name (split s), row n``, columns)."""
        self.check()
        import datasets
        import huggingface_hub.constants

        try:
            rows = datasets.load_dataset(self.name, self.configuration, split=self.split)
        # What `datasets` raises: a missing set or network is an OSError; an unknown split or
        # configuration a ValueError; a set that needs code of its own a RuntimeError.
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"prompts: cannot load the data set {self.description}: {reason} (looked in the "
                f"cache {datasets.config.HF_DATASETS_CACHE} and at "
                f"{huggingface_hub.constants.ENDPOINT})"
            ) from error
        for number, row in enumerate(rows):
            yield f"{self.description}, row {number}", row


def find_source(source: str, split: str) -> RowSource:
    """Finds out what a source's name stands for, without reading it.

    Args:
        source: A bundled set's name, a ``.jsonl`` file, a folder with ``<split>.jsonl`` files, or
            ``owner/name`` or ``owner/name:configuration`` of a Hugging Face data set. What exists
            as a path is taken as one.
        split: The split. A single file has no splits: all of it is read.

    Returns:
        The source.

    Raises:
        ConfigError: There is no such source or split.
    """
    if source in BUNDLED:
        return _split_of_folder(DATA_FOLDER / source, source, split)
    path = Path(source).expanduser()
    if path.is_dir():
        return _split_of_folder(path, source, split)
    if path.is_file():
        if path.suffix != ".jsonl":
            raise ConfigError(f"prompts: {path.absolute()} is no file that ends in .jsonl")
        return JsonLinesSource(path)
    if path.suffix == ".jsonl" or source.startswith((".", "/", "~")):
        raise ConfigError(f"prompts: no file or folder at {path.absolute()}")
    hub_name = _HUB_NAME.fullmatch(source)
    if hub_name is None:
        raise ConfigError(
            f"prompts: {source!r} is no bundled set ({', '.join(BUNDLED)}), no path (looked for "
            f"{path.absolute()}) and no Hugging Face data set (owner/name)"
            f"{nearest(source, BUNDLED)}"
        )
    hub = HubSource(hub_name[1], hub_name[2], split)
    hub.check()
    return hub


def _split_of_folder(folder: Path, source: str, split: str) -> JsonLinesSource:
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        splits = sorted(file.stem for file in folder.glob("*.jsonl"))
        raise ConfigError(
            f"split: {source!r} has no split {split!r}, only {', '.join(splits) or 'no .jsonl'} "
            f"(looked in {folder.absolute()}){nearest(split, splits)}"
        )
    return JsonLinesSource(path)
