"""The page: one file of HTML that needs nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rllib_sea.durations import duration_text
from rllib_sea.report import curves, tables
from rllib_sea.report.runs import find_runs, read_runs
from rllib_sea.report.texts import PROMPTS_RULE, before_and_after, hardest_duels
from text_duel.errors import ConfigError

REPORT_FILE = "report.html"
# What neither HTML nor a reader knows what to do with.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def write_report(folders: Sequence[Path], output: Path) -> int:
    """Writes the page of some runs; an older one is replaced.

    Args:
        folders: Of runs, of experiments or of searches.
        output: The file.

    Returns:
        How many runs it shows.

    Raises:
        ConfigError: A folder has no run, or the page cannot be written.
    """
    runs = find_runs(folders)
    page = render(runs)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(output)
    except OSError as error:
        raise ConfigError(f"report {output}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return len(runs)


def render(folders: Sequence[Path]) -> str:
    """The page of some runs.

    Args:
        folders: Theirs, as of :func:`rllib_sea.report.runs.find_runs`.

    Raises:
        ConfigError: A run is of another algorithm.
    """
    runs = read_runs(folders)
    results, settings = tables.end_results(runs), tables.settings_table(runs)
    label_uses = [tables.label_use(run) for run in runs]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            runs=runs,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=metadata.version("rllib-sea"),
            results=results,
            end_rows=[
                [run.name, *(texts[place] for _, texts in results)]
                for place, run in enumerate(runs)
            ],
            evaluation_charts=curves.evaluation_charts(runs),
            label_charts=curves.label_charts(runs),
            health_charts=curves.health_charts(runs),
            label_uses=label_uses,
            label_table=tables.label_table(runs, label_uses),
            evaluation_tables=[
                tables.table_of(r.evaluations, tables.EVALUATION_COLUMNS) for r in runs
            ],
            round_tables=[tables.table_of(r.rounds, tables.ROUND_COLUMNS) for r in runs],
            prompts=before_and_after(runs),
            prompts_rule=PROMPTS_RULE,
            hardest=[hardest_duels(run) for run in runs],
            settings=settings,
            setting_rows=[[[r.key, r.default, *r.values] for r in rows] for _, rows in settings],
            machines=[tables.machine_rows(run) for run in runs],
            versions=[tables.version_rows(run) for run in runs],
            costs=[tables.cost(run) for run in runs],
            messages=[tables.messages(run) for run in runs],
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rllib_sea.report"),
        # Everything: prompts and responses are what models and strangers wrote.
        autoescape=True,
        finalize=_showable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration_text
    return environment


def _showable(value: Any) -> Any:
    """What stands in the page for any value: characters that cannot be shown are marked."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value
