"""How a command starts: what the user got wrong is one line, not a traceback."""

from __future__ import annotations

import sys

import typer

from rllib_sea.cli.console import print_what_can_be_printed
from rllib_sea.preference_log.records import PreferenceLogError
from text_duel.errors import ConfigError


def run_command(app: typer.Typer, name: str) -> None:
    """Runs a command; what the user got wrong is one line on stderr and exit status 2.

    Args:
        app: The command.
        name: What the user typed to start it.
    """
    print_what_can_be_printed()
    try:
        app()
    except (ConfigError, PreferenceLogError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
