"""Reads what a run has written: all of it, or what there is so far."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_sea.checkpointing.manifest import MANIFEST
from rllib_sea.duels.run_files import DUELS_FILE, RESPONSES_FILE
from rllib_sea.machine import STARTS_FILE
from rllib_sea.preference_log.lock import writer_of
from rllib_sea.preference_log.reader import LOG_FILE
from rllib_sea.settings.declaration import keys_of
from rllib_sea.settings.groups import GROUPS
from text_duel.errors import ConfigError

# Tune's files of a trial.
RESULTS_FILE, PARAMS_FILE, ERROR_FILE = "result.json", "params.json", "error.txt"
# One of them is there from a run's first moment on.
_OF_A_RUN = (STARTS_FILE, LOG_FILE, PARAMS_FILE)
# More searched values than these do not make a name.
_NAMED_VALUES = 4

# Names of an oracle's arguments that may hold what is nobody else's business.
_SECRET = re.compile(r"(key|secret|token|password|credentials?)$", re.IGNORECASE)
_STATE_TEXTS = {
    "finished": "finished",
    "running": "still running",
    "failed": "failed",
    "stopped": "stopped before its end",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """A key of a run's configuration.

    Attributes:
        value: As it was written, :func:`without_secrets`.
        default: SEA's; None for RLlib's own keys.
        is_default: Whether the value is that.
    """

    value: Any
    default: Any
    is_default: bool


@dataclass(frozen=True)
class Run:
    """A run as far as it has come.

    Attributes:
        folder: Its results folder.
        name: What it is called here.
        state: ``finished``, ``running``, ``failed`` or ``stopped``.
        error: The last line of what a failed run raised; empty otherwise.
        rounds: Results, a row per round.
        responses: Rows of ``responses.jsonl``.
        duels: Rows of ``duels.jsonl``.
        starts: Rows of ``starts.jsonl``.
        settings: By key.
        remarks: What is missing or damaged, a sentence each.
    """

    folder: Path
    name: str
    state: str
    error: str
    rounds: list[Row]
    responses: list[Row]
    duels: list[Row]
    starts: list[Row]
    settings: dict[str, Setting]
    remarks: list[str]

    @property
    def state_text(self) -> str:
        """How it stands, in words."""
        return _STATE_TEXTS[self.state]

    @property
    def last(self) -> Row:
        """The newest round; empty if there is none."""
        return self.rounds[-1] if self.rounds else {}

    @property
    def evaluations(self) -> list[Row]:
        """The rounds that have an evaluation."""
        return [row for row in self.rounds if number(row, "evaluation/num_prompts") is not None]

    @property
    def log(self) -> Path:
        """The preference log, which may be missing."""
        return self.folder / LOG_FILE


def number(row: Row, key: str) -> float | None:
    """A metric by its name in docs/metrics.md; None if it was not measured."""
    value: Any = row
    for part in key.split("/"):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs among some folders; those of an experiment or a search are its trials.

    Raises:
        ConfigError: A folder is neither a run's nor has runs in it.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}")
        runs = [folder] if is_run(folder) else sorted(filter(is_run, folder.iterdir()))
        if not runs:
            parent = folder.absolute().parent
            hint = f" (did you mean {parent}?)" if is_run(parent) else ""
            raise ConfigError(
                f"{folder} is no run, and no folder of runs: expected one of "
                f"{', '.join(_OF_A_RUN)} in it or in a folder in it{hint}"
            )
        found += runs
    return list(dict.fromkeys(path.resolve() for path in found))


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    # A checkpoint has a copy of the log.
    is_checkpoint = (folder / MANIFEST).is_file()
    return not is_checkpoint and any((folder / name).is_file() for name in _OF_A_RUN)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads runs, and names them so that they can be told apart.

    Args:
        folders: Of runs, as of :func:`find_runs`.

    Raises:
        ConfigError: A run is of another algorithm.
    """
    runs = [_read_run(folder) for folder in folders]
    names = run_names(runs)
    return [dataclasses.replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _read_run(folder: Path) -> Run:
    remarks: list[str] = []
    results = _rows(folder / RESULTS_FILE, remarks)
    # A run that was killed may have repeated rounds, and not have cut off the earlier ones yet.
    rounds = list({row.get("training_iteration"): row for row in results}.values())
    if rounds and all(number(row, "num_oracle_queries") is None for row in rounds):
        raise ConfigError(f"{folder} is a run of another algorithm: it counts no oracle queries")
    state = _state(folder, rounds)
    return Run(
        folder=folder,
        name=folder.parent.name if (folder / PARAMS_FILE).is_file() else folder.name,
        state=state,
        error=_last_line(folder / ERROR_FILE) if state == "failed" else "",
        rounds=rounds,
        responses=_rows(folder / RESPONSES_FILE, remarks),
        duels=_rows(folder / DUELS_FILE, remarks),
        starts=_rows(folder / STARTS_FILE, remarks),
        settings=_settings(folder, rounds, remarks),
        remarks=remarks,
    )


def _rows(path: Path, remarks: list[str]) -> list[Row]:
    """Rows of a file of JSON lines; the last may be cut short, all others count as well."""
    if not path.is_file():
        reason = ": Tune writes it" if path.name == RESULTS_FILE else ""
        remarks.append(f"There is no {path.name}{reason}.")
        return []
    rows: list[Row] = []
    damaged = []
    # As bytes: some characters that JSON leaves as they are end a line of text.
    for place, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            damaged.append(str(place))
    if damaged:
        lines = "Line" if len(damaged) == 1 else "Lines"
        remarks.append(f"{lines} {', '.join(damaged)} of {path.name} could not be read.")
    return rows


def _state(folder: Path, rounds: Sequence[Row]) -> str:
    if rounds and rounds[-1].get("done") is True:
        return "finished"
    if writer_of(folder / LOG_FILE) is not None:
        return "running"
    return "failed" if (folder / ERROR_FILE).is_file() else "stopped"


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _settings(folder: Path, rounds: Sequence[Row], remarks: list[str]) -> dict[str, Setting]:
    given: Any = {}
    path = folder / PARAMS_FILE
    if path.is_file():
        try:
            given = json.loads(path.read_bytes())
        except ValueError:
            remarks.append(f"{path.name} could not be read.")
    if not isinstance(given, dict):
        given = {}
    # What was given, and of each result what held.
    held = rounds[-1].get("config", {}) if rounds else {}
    declared = {key.name: key.default for group in GROUPS for key in keys_of(group)}
    settings = {}
    for name in (*given, "env_config", *declared):
        value = held.get(name, given.get(name, declared.get(name)))
        default = declared.get(name, {} if name == "env_config" else None)
        same = json.dumps(value, sort_keys=True) == json.dumps(default, sort_keys=True)
        settings[name] = Setting(without_secrets(value), default, same)
    return settings


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Keys whose values are not the same in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    missing = Setting(None, None, True)
    return [
        key
        for key in keys
        if len({json.dumps(run.settings.get(key, missing).value, sort_keys=True) for run in runs})
        > 1
    ]


def run_names(runs: Sequence[Run]) -> list[str]:
    """Names by which runs can be told apart.

    The experiments' if they are enough; else what was searched; else the folders'.
    """
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    leaves = [_leaves({key: of.value for key, of in run.settings.items()}) for run in runs]
    every = dict.fromkeys(key for of in leaves for key in of)
    keys = [key for key in every if len({of.get(key) for of in leaves}) > 1]
    if 0 < len(keys) <= _NAMED_VALUES:
        values = [", ".join(f"{key}={of[key]}" for key in keys if key in of) for of in leaves]
        one = len(set(names)) == 1
        named = values if one else [f"{n}: {v}" for n, v in zip(names, values, strict=True)]
        if len(set(named)) == len(named):
            return named
    folders = [run.folder.name for run in runs]
    return folders if len(set(folders)) == len(folders) else [str(run.folder) for run in runs]


def _leaves(value: Any, path: str = "") -> dict[str, str]:
    """Single values of nested mappings, as text, by their path: ``env_config/prompts``."""
    if not isinstance(value, Mapping):
        return {path: setting_text(value)}
    leaves: dict[str, str] = {}
    for key, inner in value.items():
        leaves |= _leaves(inner, f"{path}/{key}" if path else str(key))
    return leaves


def without_secrets(value: Any) -> Any:
    """A setting without texts whose names end like those of secrets: a page is passed on."""
    if isinstance(value, Mapping):
        return {
            key: "(not shown)"
            if isinstance(inner, str) and _SECRET.search(str(key))
            else without_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return value


def setting_text(value: Any) -> str:
    """A value as it stands in a recipe."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
