"""The `rllib-sea` command: what is not training."""

from __future__ import annotations

import typer

from rllib_sea.cli.entry import run_command
from rllib_sea.cli.preferences import preferences_app

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
    """The `rllib-sea` command."""
    run_command(app, "rllib-sea")


if __name__ == "__main__":
    main()
