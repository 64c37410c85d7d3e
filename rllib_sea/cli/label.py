"""`rllib-sea label`: the page on which people label, without a run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.yaml_files import parse_option
from rllib_sea.labelling.web.page_of_log import PageOfLog
from rllib_sea.labelling.web.raters import Raters, raters_file
from rllib_sea.preference_log.lock import writer_of
from rllib_sea.preference_log.log import PreferenceLog, PreferenceReader
from rllib_sea.preference_log.records import Purpose
from text_duel.oracles import check_oracle_config
from text_duel.oracles.people import PeopleOracle, check_rater


def label(
    log: Annotated[Path, typer.Argument(help="A preference log (preferences.sqlite).")],
    raters: Annotated[
        list[str] | None,
        typer.Option(
            "--rater",
            help="Somebody who labels, by name; may be given several times. Those who have a link "
            "keep it. Without any: all who have one, or `me`.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to serve on; the loopback one is this machine's alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: the log's last one, or a free one.")] = 0,
    rubric: Annotated[
        str | None, typer.Option(help="A Markdown file that says what is better.")
    ] = None,
    oracle_config: Annotated[
        str | None,
        typer.Option(
            help="Other keys of oracle_config, a YAML mapping such as '{labels_by: majority, "
            "raters_per_question: 3}'. Those that are not given are as the log's page had them "
            "last."
        ),
    ] = None,
) -> None:
    """Serve a log's open questions to people until Ctrl-C; or invite others to a run's page.

    A run that was stopped learns from the answers when it is resumed. While a run goes on, it
    serves the page itself: then the links are printed, and raters who are new to it get theirs.
    """
    console = TextConsole()
    with PreferenceReader(log) as reader:
        run, num_open = reader.runs()[0], _counts(reader)[1]
    names = raters or []
    for name in names:
        check_rater(name, "--rater")
    if writer_of(log) is not None and raters_file(log).is_file():
        known = Raters(log)
        known.invite(names)
        console.say(f"{log}: a run goes on, and serves the page")
        _print_links(console, known.links(), names)
        return
    known = Raters(log)
    options = {} if oracle_config is None else parse_option("--oracle-config", oracle_config)
    if rubric is not None:
        options["rubric"] = rubric
    options = known.options | options
    who = list(dict.fromkeys([*known.names, *names])) or ["me"]
    options |= {"raters": who, "host": host, "port": port}
    check_oracle_config("people", options)
    people = PeopleOracle(**options)
    with PreferenceLog(log, run) as opened:
        console.say(f"{log}: {num_open} open questions; Ctrl-C ends the page")
        asyncio.run(_serve(console, opened, people, names))


async def _serve(
    console: TextConsole, log: PreferenceLog, people: PeopleOracle, names: Sequence[str]
) -> None:
    page = PageOfLog(log, people, has_run=False, warn=lambda text: console.say(f"warning: {text}"))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    before, _ = _counts(log)
    try:
        _print_links(console, await page.open(), names)
        await ended.wait()
    finally:
        await page.close()
    answered, left = _counts(log)
    console.say(f"{answered - before} questions answered, {left} open")


def _counts(reader: PreferenceReader) -> tuple[int, int]:
    """How many questions are answered, and how many open: those for labels, and an evaluation's."""
    purposes: tuple[Purpose, ...] = ("label", "evaluation")
    return sum(map(reader.num_answered, purposes)), sum(reader.num_open(None, p) for p in purposes)


def _print_links(console: TextConsole, links: dict[str, str], names: Sequence[str]) -> None:
    for name in names or links:
        console.say(f"{name} labels at {links[name]}")
