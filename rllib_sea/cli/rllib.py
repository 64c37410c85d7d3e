"""The `rllib` command: train, evaluate, example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_sea.cli.entry import run_command
from rllib_sea.cli.evaluate import evaluate_checkpoint
from rllib_sea.cli.experiments import experiment_from_options, experiments_from_file
from rllib_sea.cli.options import RayOptions, TrainOptions, takes_options
from rllib_sea.cli.ray_session import set_log_levels
from rllib_sea.cli.recipes import find_recipe, headline, recipes
from rllib_sea.cli.tune_runs import run_experiments
from text_duel.errors import ConfigError

app = typer.Typer(
    help="Align language models from few preference labels, on RLlib.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train: `train file FILE`, or `train --run SEA ...`.")
example_app = typer.Typer(help="The recipes that come with the package.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(example_app, name="example")


@train_app.callback(invoke_without_command=True)
@takes_options
def train(
    context: typer.Context,
    run: Annotated[str | None, typer.Option("--run", help="What to train, such as SEA.")] = None,
    env: Annotated[
        str | None, typer.Option("--env", help="The environment, such as text_duel/TLDR-v0.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            help="The configuration, a JSON or YAML mapping: '{\"query_budget\": 64}'.",
        ),
    ] = None,
    *,
    options: TrainOptions,
) -> None:
    """Train: `rllib train file FILE`, or `rllib train --run SEA --config '{...}'`."""
    if context.invoked_subcommand is not None:
        if run or env or config or options.given:
            raise ConfigError(
                f"options of `rllib train {context.invoked_subcommand}` stand after it"
            )
        return
    if run is None:
        raise ConfigError("say what to train: `rllib train file FILE`, or --run SEA")

    set_log_levels(options.verbosity)
    experiment = experiment_from_options(run, env, config, options)
    raise typer.Exit(run_experiments([experiment], options))


@train_app.command("file")
@takes_options
def train_file(
    file: Annotated[Path, typer.Argument(help="YAML with experiments.")],
    *,
    options: TrainOptions,
) -> None:
    """Run the experiments of a file; an option given here wins over the file."""
    _train_file(file, options)


@app.command()
@takes_options
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder of a run.")],
    *,
    options: RayOptions,
) -> None:
    """Evaluate a checkpoint on its held-out prompts."""
    set_log_levels(options.verbosity)
    evaluate_checkpoint(checkpoint, options)


@example_app.command("list")
def example_list() -> None:
    """List the recipes, and what each is for."""
    found = recipes()
    width = max(map(len, found), default=0)
    for name, path in found.items():
        typer.echo(f"{name:<{width}}  {headline(path)}")


@example_app.command("get")
def example_get(name: Annotated[str, typer.Argument(help="A recipe's name.")]) -> None:
    """Print a recipe: `rllib example get sea_tldr > mine.yaml` is one to change."""
    # As it is, whatever encoding the terminal has.
    typer.echo(find_recipe(name).read_bytes(), nl=False)


@example_app.command("run")
@takes_options
def example_run(
    name: Annotated[str, typer.Argument(help="A recipe's name.")], *, options: TrainOptions
) -> None:
    """Run a recipe; an option given here wins over it."""
    _train_file(find_recipe(name), options)


def _train_file(file: Path, options: TrainOptions) -> None:
    set_log_levels(options.verbosity)
    raise typer.Exit(run_experiments(experiments_from_file(file, options), options))


def main() -> None:
    """The `rllib` command."""
    run_command(app, "rllib")


if __name__ == "__main__":
    main()
