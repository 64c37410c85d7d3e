"""The options that several commands share, once.

The fields of the dataclasses are the command line: names, help and types. None: not given.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer


@dataclass(frozen=True)
class ExperimentOptions:
    """What is run. Not given: the file's value stands."""

    stop: Annotated[
        str | None,
        typer.Option(
            "--stop",
            "-s",
            help="Stop criteria as a JSON or YAML mapping of result keys to numbers; a run "
            "ends when one is reached: '{\"num_oracle_queries\": 64}'. SEA also ends when "
            "its query_budget is used.",
        ),
    ] = None
    num_samples: Annotated[int | None, typer.Option(help="How often each trial is repeated.")] = (
        None
    )
    experiment_name: Annotated[
        str | None,
        typer.Option(
            "--experiment-name",
            "-n",
            help="Name of the folder of results under the storage path.",
        ),
    ] = None
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Folder (or URI, such as s3://bucket/path) of all results "
            "(default: ~/ray_results)."
        ),
    ] = None
    restore: Annotated[
        str | None, typer.Option(help="Start every trial from this checkpoint, as a new run.")
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the last run of the same name, in the same storage path, where it "
            "stopped, was stopped or failed. Its own configuration stands.",
        ),
    ] = False


@dataclass(frozen=True)
class RayOptions:
    """Where it runs, and how much of it is shown."""

    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Use the cluster at this address (default: $RAY_ADDRESS, else a new one on "
            "this machine)."
        ),
    ] = None
    ray_num_cpus: Annotated[
        int | None,
        typer.Option(help="Logical CPUs of the new cluster (default: those of the machine)."),
    ] = None
    ray_num_gpus: Annotated[
        int | None,
        typer.Option(help="GPUs of the new cluster (default: those of the machine)."),
    ] = None
    ray_ui: Annotated[
        bool, typer.Option("--ray-ui", help="Start Ray's dashboard, and say how to open it.")
    ] = False
    verbosity: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            max=2,
            clamp=True,
            help="Also show Ray's and the workers' logs, and Tune's tables; -vv: debug messages.",
        ),
    ] = 0


@dataclass(frozen=True)
class TrainOptions(RayOptions, ExperimentOptions):
    """The options of `rllib train`, `rllib train file` and `rllib example run`."""

    @property
    def given(self) -> bool:
        """Whether any option was given."""
        return self != TrainOptions()


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command whose last parameter is ``options: SomeOptions`` all its options.

    Typer reads a command's signature, so the fields of the dataclass take the place of that
    parameter there.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    kind = parameters["options"].annotation
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in dataclasses.fields(kind)]
    shown = [p for p in parameters.values() if p.name != "options"] + [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        options = kind(**{name: kwargs.pop(name) for name in names})
        command(*args, **kwargs, options=options)

    wrapper.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in shown}
    return wrapper
