"""Where rows come from: files, saved data sets, data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import itertools
import json
import logging
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from text_duel.errors import ConfigError, nearest, one_line
from text_duel.hub_source import HUB_NAME, HubSource, splits_on_hub
from text_duel.paths import user_path

DATA_FOLDER = Path(__file__).parent / "data"
BUNDLED = ("tldr_mini",)
Rows = Iterator[tuple[str, Mapping[str, Any]]]


class RowSource(Protocol):
    """Rows, each with the place it stands at for error messages."""

    @property
    def description(self) -> str:
        """What is read, for error messages."""

    def rows(self) -> Rows:
        """Yields (place, columns), in order.

        Raises:
            ConfigError: A row cannot be read.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of a kind of :data:`KINDS`.

    Attributes:
        path: The file.
        key: What named it, for messages.
    """

    path: Path
    key: str = "prompts"

    @property
    def description(self) -> str:
        """The file's full path."""
        return str(self.path.absolute())

    def rows(self) -> Rows:
        """Yields (``file:line`` or, if rows have no lines, ``file, row n`` from 1; columns)."""
        kind = _kind(self.path)
        if kind is None:
            raise ConfigError(f"{self.key}: {self.description} is no file that ends in {KINDS}")
        try:
            yield from _READERS[kind](self.path)
        except _UnreadableError as error:
            raise ConfigError(f"{self.key}: {error}") from error
        except (OSError, EOFError, zlib.error) as error:
            # It may be about another path, such as the cache of `datasets`.
            raise ConfigError(f"{self.key}: cannot read {self.path}: {one_line(error)}") from error


@dataclass(frozen=True, slots=True)
class SavedSource:
    """A folder that ``save_to_disk`` of the package `datasets` wrote.

    Attributes:
        path: The folder of one split.
    """

    path: Path

    @property
    def description(self) -> str:
        """The folder's full path."""
        return str(self.path.absolute())

    def rows(self) -> Rows:
        """Yields (``folder, row n`` from 1; columns)."""
        import datasets

        try:
            rows = datasets.load_from_disk(str(self.path))
        # What cannot be read is an OSError, what is no data set a KeyError, or Arrow's ValueError.
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"prompts: {self.path}: no data set that `datasets` reads: {one_line(error)}"
            ) from error
        for number, row in enumerate(rows, start=1):
            yield f"{self.path}, row {number}", row


def find_source(source: str, split: str) -> RowSource:
    """Finds out what a source's name stands for, without reading it.

    Args:
        source: A bundled set's name, a file of :data:`KINDS`, a folder with ``<split>`` files of
            these kinds or one that ``save_to_disk`` wrote, or ``owner/name`` or
            ``owner/name:configuration`` of a Hugging Face data set. What exists as a path is taken
            as one.
        split: The split. A single file has no splits, nor has a single saved data set: all of it is
            read.

    Returns:
        The source.

    Raises:
        ConfigError: There is no such source or split.
    """
    if source in BUNDLED:
        return _split_of_folder(DATA_FOLDER / source, source, split)
    path = user_path(source, "prompts")
    if path.is_dir():
        return _split_of_folder(path, source, split)
    if path.is_file():
        if _kind(path) is None:
            raise ConfigError(f"prompts: {path.absolute()} is no file that ends in {KINDS}")
        return FileSource(path)
    if _kind(path) is not None or source.startswith((".", "/", "~")):
        raise ConfigError(f"prompts: no file or folder at {path.absolute()}")
    hub_name = HUB_NAME.fullmatch(source)
    if hub_name is None:
        raise ConfigError(
            f"prompts: {source!r} is no bundled set ({', '.join(BUNDLED)}), no path (looked for "
            f"{path.absolute()}) and no Hugging Face data set (owner/name)"
            f"{nearest(source, BUNDLED)}"
        )
    return HubSource(hub_name[1], hub_name[2], split)


@contextmanager
def open_utf8(path: Path) -> Iterator[BinaryIO]:
    """Opens a text, also a gzipped one, behind the byte order mark that it may begin with.

    Raises:
        ValueError: It begins as UTF-16 or UTF-32 does.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        encoding = json.detect_encoding(file.peek(4)[:4])
        if encoding == "utf-8-sig":
            file.read(3)
        elif encoding != "utf-8":
            raise _UnreadableError(f"{path} is in {encoding.upper()}, expected UTF-8")
        yield cast(BinaryIO, file)


class _UnreadableError(ValueError):
    """A file cannot be read: one line without the key that named it."""


def has_one_split(source: str) -> bool:
    """Whether a source is known to have no second split: a file, or a folder or data set of one.

    Args:
        source: See :func:`find_source`.
    """
    path = user_path(source, "prompts")
    if source in BUNDLED:
        return False
    if path.is_dir():
        return len(_splits_of_folder(path)) <= 1
    hub_name = HUB_NAME.fullmatch(source)
    return path.is_file() or (hub_name is not None and len(splits_on_hub(*hub_name.groups())) == 1)


def _splits_of_folder(folder: Path) -> dict[str, list[RowSource]]:
    """What a folder has of each split; what it has without naming one is of the split ``""``."""
    index = folder / "dataset_dict.json"
    found: dict[str, list[RowSource]] = {}
    if (folder / "state.json").is_file():
        return {"": [SavedSource(folder)]}
    if index.is_file():
        try:
            splits = json.loads(index.read_text(encoding="utf-8"))["splits"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"prompts: {index}: no index of splits: {error!r}") from error
        return {name: [SavedSource(folder / name)] for name in splits}
    for file in sorted(folder.iterdir()):
        if (kind := _kind(file)) is not None and file.is_file():
            name = file.name.removesuffix(".gz").removesuffix(kind)
            found.setdefault(name, []).append(FileSource(file))
    return found


def _split_of_folder(folder: Path, source: str, split: str) -> RowSource:
    found = _splits_of_folder(folder)
    if "" in found:
        return found[""][0]
    if split not in found:
        raise ConfigError(
            f"split: {source!r} has no split {split!r}, only {', '.join(found) or f'no {KINDS}'} "
            f"(looked in {folder.absolute()}){nearest(split, found)}"
        )
    if len(found[split]) > 1:
        files = ", ".join(Path(one.description).name for one in found[split])
        raise ConfigError(f"split: {source!r} has several files of {split!r}: {files}; name one")
    return found[split][0]


# -- Kinds of files ------------------------------------------------------------------------
#
# `datasets` reads data sets of its own: Parquet, whose columns may be in types of its own, folders
# that it wrote, the hub. JSON and CSV have no types to be kept, and it guesses them per column: a
# text "2020-01-01" becomes a time, "None" or "NA" null, 007 the number 7, a column of texts and
# lists JSON, a row that was cut short one with null. Here a text is what stands in the file, and
# what is wrong with it is said with its line.


def _json_lines(path: Path) -> Rows:
    with open_utf8(path) as file:
        yield from _parse_lines(path, file)


def _parse_lines(path: Path, lines: BinaryIO) -> Rows:
    # Bytes are split at newlines only: str.splitlines would also split at characters
    # that JSON allows inside strings.
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _row(f"{path}:{number}", _parse(f"{path}:{number}", line))


def _json(path: Path) -> Rows:
    """A list of objects; what is no list is JSON lines, which have this ending on the hub."""
    with open_utf8(path) as file:
        content = file.read()
    if content.lstrip()[:1] == b"[":
        for number, row in enumerate(_parse(str(path), content), start=1):
            yield _row(f"{path}, row {number}", row)
    else:
        yield from _parse_lines(path, io.BytesIO(content))


def _parse(place: str, text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"{place}: not valid JSON: {error}") from error


def _row(place: str, row: Any) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(row, dict):
        raise _UnreadableError(f"{place}: expected a JSON object, found {type(row).__name__}")
    return place, row


def _csv(path: Path) -> Rows:
    """Rows under a header; a row's place is the line that it begins in.

    Spreadsheets write semicolons where the comma is in numbers, and tabs: the header shows it.
    """
    with (
        open_utf8(path) as file,
        # A byte that is no UTF-8 becomes a surrogate, by which its row is found.
        io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="") as lines,
    ):
        csv.field_size_limit(sys.maxsize)  # a text may be longer than 128 KiB
        begin: list[str] = []
        for line in lines:
            begin.append(line)
            if line.strip("\r\n"):
                break
        reader = csv.reader(
            itertools.chain(begin, lines), delimiter=_delimiter("".join(begin[-1:])), strict=True
        )
        header: list[str] = []
        while True:
            place = f"{path}:{reader.line_num + 1}"
            try:
                cells = next(reader, None)
                "".join(cells or ()).encode()
            except csv.Error as error:
                raise _UnreadableError(f"{place}: not valid CSV: {error}") from error
            except UnicodeEncodeError as error:
                raise _UnreadableError(f"{place}: not valid UTF-8") from error
            if cells is None:
                return
            if not cells:
                continue
            if not header:
                header = cells
                if len(set(header)) < len(header):
                    raise _UnreadableError(f"{place}: two columns have one name")
            elif len(cells) != len(header):
                raise _UnreadableError(
                    f"{place}: {len(cells)} cells, the header has {len(header)} columns"
                )
            else:
                yield place, dict(zip(header, cells, strict=True))


def _delimiter(header: str) -> str:
    """What a header has the most columns by; a comma if nothing else has more."""

    def num_columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter, strict=True), ()))
        except csv.Error:
            return 0

    return max((",", ";", "\t"), key=num_columns)


def _parquet(path: Path) -> Rows:
    import datasets

    path.stat()  # what is missing is an OSError that says no more than that
    place = f"{path}: not valid Parquet"
    with _quiet(place):
        # Streamed: no copy in a cache, and no more is read than is asked for.
        rows = iter(
            datasets.load_dataset(
                "parquet",
                data_files=glob.escape(str(path.absolute())),
                split="train",
                streaming=True,
            )
        )
    for number in itertools.count(1):
        with _quiet(place):
            row = next(rows, None)
        if row is None:
            return
        yield f"{path}, row {number}", row


@contextmanager
def _quiet(place: str) -> Iterator[None]:
    """Turns what `datasets` raises into one line; it logs the same, and a failure speaks once."""
    import datasets

    logger = logging.getLogger("datasets")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _UnreadableError(f"{place}: {one_line(error)}") from error
    finally:
        logger.setLevel(level)


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
_GZIPPED = tuple(f"{kind}.gz" for kind in _READERS if kind != ".parquet")
# For messages.
KINDS = ".jsonl, .json, .csv (each also .gz) or .parquet"


def _kind(path: Path) -> str | None:
    """The ending in ``_READERS`` that a file's name has, ``.gz`` aside."""
    name = path.name.removesuffix(".gz") if path.name.endswith(_GZIPPED) else path.name
    return next((kind for kind in _READERS if name.endswith(kind)), None)
