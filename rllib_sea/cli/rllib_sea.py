"""The `rllib-sea` command: what is not training."""

from __future__ import annotations

import sys

import typer

from rllib_sea.cli.preferences import preferences_app
from rllib_sea.duels.log_records import PreferenceLogError
from text_duel.errors import ConfigError

app = typer.Typer(
    help="Tools around runs of rllib-sea.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(preferences_app, name="preferences")


@app.callback()
def tools() -> None:
    """Tools around runs of rllib-sea."""


def main() -> None:
    """Runs the command; what the user got wrong is one line on stderr and exit status 2."""
    try:
        app()
    except (ConfigError, PreferenceLogError) as error:
        print(f"rllib-sea: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
