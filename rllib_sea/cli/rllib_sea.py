"""The `rllib-sea` command: what is not training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.entry import run_command
from rllib_sea.cli.label import label
from rllib_sea.cli.preferences import preferences_app
from rllib_sea.cli.push import push_app
from rllib_sea.cli.report import report
from rllib_sea.preference_log.records import PreferenceLogError
from text_duel.errors import ConfigError

app = typer.Typer(
    help="Tools around runs of rllib-sea.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(preferences_app, name="preferences")
app.add_typer(push_app, name="push")
app.command()(report)
app.command()(label)


@app.callback()
def tools() -> None:
    """Tools around runs of rllib-sea."""


@app.command("check")
def check(
    recipe: Annotated[Path, typer.Argument(help="YAML with experiments, or a recipe's name.")],
    storage_path: Annotated[str | None, typer.Option(help="As for `rllib train file`.")] = None,
) -> None:
    """Check all of a recipe as `rllib train file` does, and say what it will do; starts nothing."""
    # RLlib and models' libraries, for which the other commands do not wait.
    from rllib_sea.cli.check import describe
    from rllib_sea.cli.experiments import experiments_from_file
    from rllib_sea.cli.options import TrainOptions
    from rllib_sea.cli.ray_session import set_log_levels
    from rllib_sea.cli.recipes import find_recipe

    set_log_levels(0)
    try:
        file = recipe if recipe.exists() or recipe.suffix else find_recipe(str(recipe))
        for experiment in experiments_from_file(file, TrainOptions(storage_path=storage_path)):
            describe(TextConsole(), experiment)
    except (ConfigError, PreferenceLogError) as error:
        typer.echo(f"rllib-sea: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from error


def main() -> None:
    """The `rllib-sea` command."""
    run_command(app, "rllib-sea")


if __name__ == "__main__":
    main()
