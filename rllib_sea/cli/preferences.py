"""`rllib-sea preferences`: what a run asked and was answered, and files for and from others."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rllib_sea.cli.yaml_files import parse_option
from rllib_sea.durations import duration_text
from rllib_sea.preference_log.agreement import RaterReport, agreement
from rllib_sea.preference_log.export import export_preferences
from rllib_sea.preference_log.log import PreferenceReader
from rllib_sea.preference_log.records import NO_POLICY_VERSION, LogEntry
from rllib_sea.preference_log.statistics import LogStatistics, log_statistics
from rllib_sea.statistics import Estimate

preferences_app = typer.Typer(
    help="Read a run's preference log (preferences.sqlite in its folder), also while it runs; "
    "make one of labels that exist.",
    no_args_is_help=True,
)
Log = Annotated[Path, typer.Argument(help="A run's preferences.sqlite.")]

_TEXT_WIDTH = 100
# Places that are named of rows that are left out.
_NAMED = 5


class Format(StrEnum):
    """The names of :data:`rllib_sea.preference_log.export.FORMATS`."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@preferences_app.command("stats")
def stats(file: Log) -> None:
    """Count questions and answers."""
    with PreferenceReader(file) as log:
        run, *older = log.runs()
        found = log_statistics(log)
    kind = "chat" if run.chat else "plain text"
    _say("run", f"{run.run_id} (seed {run.seed}, {run.policy_model}, {kind})")
    for other in older:
        _say("  started from", other.run_id)
    for name, text in statistics_rows(found):
        _say(name, text)


@preferences_app.command("head")
def head(
    file: Log,
    number: Annotated[int, typer.Option("-n", help="How many questions.", min=1)] = 5,
) -> None:
    """Show the first questions with their answers."""
    with PreferenceReader(file) as log:
        for entry, _ in zip(log.read(), range(number), strict=False):
            typer.echo(entry_text(entry))


@preferences_app.command("agreement")
def agreement_of_raters(file: Log) -> None:
    """Say how far raters agree, and how each of them labels."""
    with PreferenceReader(file) as log:
        found = agreement(log.read(None))
    alpha = "undefined: " + found.why_undefined if found.alpha is None else f"{found.alpha:.3f}"
    _say("alpha", f"{alpha} (Krippendorff's, of {found.num_shared} questions with two judgments)")
    for (one, other), (kappa, shared) in found.kappas.items():
        text = "undefined" if math.isnan(kappa) else f"{kappa:.3f}"
        _say("kappa", f"{text} (Cohen's, {one} and {other}, {shared} questions)")
    for name, rater in found.raters.items():
        parts = [_counts_text(rater.choices)]
        if rater.left is not None:
            parts.append(f"left {_estimate(rater.left)}")
        if rater.seconds is not None:
            parts.append(f"median {rater.seconds:.1f} s")
        _say(name, "; ".join(parts))
        _say("", "; ".join(_checks(rater)))
    for strategy, choices in found.strategies.items():
        total = choices.total()
        rates = (f"{kind} {choices[kind] / total:.3f}" for kind in ("tie", "both_bad", "skip"))
        _say(strategy, f"{', '.join(rates)} of {total} verdicts")


@preferences_app.command("export")
def export(
    file: Log,
    output: Annotated[Path, typer.Option("--output", "-o", help="Write to this new file.")],
    file_format: Annotated[
        Format, typer.Option("--format", help="JSON lines or Parquet.")
    ] = Format.JSONL,
    all_columns: Annotated[
        bool,
        typer.Option("--all", help="Also write round, oracle, scores, tokens and more."),
    ] = False,
) -> None:
    """Write prompt, chosen, rejected, as TRL and Hugging Face data sets read them."""
    with PreferenceReader(file) as log:
        number = export_preferences(log, file_format, output, all_columns=all_columns)
        found = log_statistics(log)
    left_out = {
        "ties": found.choices["tie"],
        "skips": found.choices["skip"] + found.choices["both_bad"],
        "open": found.num_open,
        "withdrawn": found.num_withdrawn,
    }
    names = ", ".join(f"{name} {count}" for name, count in left_out.items())
    typer.echo(f"{number} preferences written to {output}; left out: {names}")


@preferences_app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="A .jsonl, .json, .csv (.gz) or .parquet file of preferences.")
    ],
    log: Annotated[Path, typer.Argument(help="Write to this new preference log.")],
    model: Annotated[str, typer.Option("--model", help="The run's policy_model.")],
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="The run's chat_template, where it sets one."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Names of columns, a JSON or YAML mapping of prompt, chosen, rejected, or of "
            "prompt, first, second, label (1: the first is preferred; 0; tie; no such column: "
            "people are to say): "
            "'{prompt: question, chosen: good}'.",
        ),
    ] = None,
) -> None:
    """Make a log of labels that exist, for a run to start from (initial_preferences)."""
    # Tokenizers, for which the other commands do not wait.
    from rllib_sea.preference_log.importing import import_preferences

    names = {} if columns is None else parse_option("--columns", columns)
    made = import_preferences(file, log, model, chat, names)
    typer.echo(f"{file}: {made.read.num_rows} rows of {made.read.form}")
    if made.read.num_end_tokens:
        typer.echo(f"end tokens taken off the ends of {made.read.num_end_tokens} responses")
    what = f"{made.num_preferences} preferences"
    if made.num_open:
        what = f"{made.num_open} open questions"
    text = f"{what} of {made.num_prompts} prompts written to {log}"
    if made.num_open:
        text += f" (`rllib-sea label {log}` has people answer them)"
    for reason, places in made.left_out.items():
        more = ", ..." if places[_NAMED:] else ""
        text += f"; left out, {reason}: {len(places)} ({', '.join(places[:_NAMED])}{more})"
    typer.echo(text)


def _checks(rater: RaterReport) -> list[str]:
    """What is known of how well a rater judges."""
    parts = [f"reliability {_estimate(rater.reliability)}"]
    for kind, found in (("gold", rater.gold), ("repeats", rater.consistency)):
        if found is not None:
            parts.append(f"{kind} {_estimate(found[0])} of {found[1]}")
    fast, timed = rater.too_fast
    if timed:
        parts.append(f"too fast {fast / timed:.3f} of {timed}")
    return parts


def _estimate(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def statistics_rows(found: LogStatistics) -> list[tuple[str, str]]:
    """Statistics as names and texts.

    Args:
        found: What :func:`rllib_sea.preference_log.statistics.log_statistics` returns.
    """
    rows = [("questions", str(found.num_questions))]
    if found.rounds is not None:
        low, high = found.rounds
        rounds = f"round {low}" if low == high else f"rounds {low} to {high}"
        rows[0] = ("questions", f"{found.num_questions} in {rounds}")
    rows.append(("  answered", f"{found.num_answered} (the query count)"))
    rows.append(("  open", str(found.num_open)))
    rows.append(("  withdrawn", str(found.num_withdrawn)))
    rows.append(("  late labels", str(found.num_late)))
    for name, counts in (
        ("verdicts", found.choices),
        ("strategies", found.strategies),
        ("oracles", found.oracles),
        ("raters", found.raters),
    ):
        rows.append((name, _counts_text(counts)))
    if found.beside:
        rows.append(("  beside labels", _counts_text(found.beside)))
    if found.asked is not None:
        first, last = (time.strftime("%Y-%m-%d %H:%M:%S") for time in found.asked)
        rows.append(("asked", f"{first} to {last} UTC"))
    if found.waited is not None:
        median, most, longest = map(_seconds, found.waited)
        rows.append(("time to answer", f"median {median}, 90% {most}, longest {longest}"))
    return rows


def entry_text(entry: LogEntry) -> str:
    """A question and its answer in a few lines, long texts cut."""
    question, given = entry.question, entry.deciding
    outcome: str = entry.state
    if given is not None:
        outcome = given.verdict.choice
        if given.verdict.win_probability is not None:
            outcome += f" (p(first) {given.verdict.win_probability:.3f})"
    member = "" if question.member is None else f", member {question.member}"
    version = f", policy version {question.policy_version}"
    if question.policy_version == NO_POLICY_VERSION:
        version = ""
    lines = [
        f"round {question.round}, position {question.position}: {outcome}",
        f"  {question.strategy}{member}{version}, asked {question.oracle}",
    ]
    for name, text in (
        (f"prompt {question.prompt_id}", question.prompt_text),
        ("first", question.first.text),
        ("second", question.second.text),
    ):
        short = textwrap.shorten(text, _TEXT_WIDTH, placeholder=" ...")
        lines.append(f"  {name}: {short or '(empty)'}")
    return "\n".join(lines)


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {count}" for key, count in counts.items()) or "none"


def _seconds(value: float) -> str:
    return f"{value:.3f} s" if value < 60 else duration_text(value)


def _say(name: str, text: str) -> None:
    typer.echo(f"{name:<16} {text}")
