"""The options that several commands share, once.

The fields' annotations are the command line: names, help and types. None stands for an option
that was not given.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

_TRIAL = "Experiment"
_WANDB = "Weights & Biases"
_RAY = "Ray"


def _option(*names: str, help: str, panel: str, **kwargs: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **kwargs)


@dataclass(frozen=True)
class ExperimentOptions:
    """What is run, kept and logged. Not given: the file's value stands."""

    stop: Annotated[
        str | None,
        _option(
            "--stop",
            "-s",
            help="Stop criteria as a JSON or YAML mapping of result keys to numbers; a run "
            "ends when one is reached: '{\"num_oracle_queries\": 64}'. SEA also ends when "
            "its query_budget is used.",
            panel=_TRIAL,
        ),
    ] = None
    num_samples: Annotated[
        int | None,
        _option("--num-samples", help="How often each trial is repeated.", panel=_TRIAL),
    ] = None
    experiment_name: Annotated[
        str | None,
        _option(
            "--experiment-name",
            "-n",
            help="Name of the folder of results under the storage path.",
            panel=_TRIAL,
        ),
    ] = None
    storage_path: Annotated[
        str | None,
        _option(
            "--storage-path",
            help="Folder (or URI, such as s3://bucket/path) of all results "
            "(default: ~/ray_results).",
            panel=_TRIAL,
        ),
    ] = None
    checkpoint_freq: Annotated[
        int | None,
        _option(
            "--checkpoint-freq",
            help="Rounds between checkpoints; 0 for none.",
            panel=_TRIAL,
        ),
    ] = None
    checkpoint_at_end: Annotated[
        bool | None,
        _option(
            "--checkpoint-at-end/--no-checkpoint-at-end",
            help="Write a checkpoint when a trial ends (default: the file's, else yes).",
            panel=_TRIAL,
        ),
    ] = None
    keep_checkpoints_num: Annotated[
        int | None,
        _option(
            "--keep-checkpoints-num",
            help="How many of the best checkpoints are kept (default: all).",
            panel=_TRIAL,
        ),
    ] = None
    checkpoint_score_attr: Annotated[
        str | None,
        _option(
            "--checkpoint-score-attr",
            help="Result key that ranks checkpoints; with the prefix min-, less is better "
            "(default: the newest are the best).",
            panel=_TRIAL,
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        _option("--scheduler", help="Tune's trial scheduler (default: FIFO).", panel=_TRIAL),
    ] = None
    scheduler_config: Annotated[
        str | None,
        _option(
            "--scheduler-config",
            help="The scheduler's arguments, a JSON or YAML mapping, such as "
            '\'{"metric": "evaluation/win_rate_vs_initial", "mode": "max"}\'.',
            panel=_TRIAL,
        ),
    ] = None
    restore: Annotated[
        str | None,
        _option(
            "--restore",
            help="Start every trial from this checkpoint, as a new run.",
            panel=_TRIAL,
        ),
    ] = None
    resume: Annotated[
        bool,
        _option(
            "--resume",
            help="Continue the last run of the same name, in the same storage path, where it "
            "stopped, was stopped or failed. Its own configuration stands.",
            panel=_TRIAL,
        ),
    ] = False
    wandb_key: Annotated[
        str | None,
        _option(
            "--wandb-key",
            help="API key (other users can see it in the process list: the environment "
            "variable WANDB_API_KEY is safer).",
            panel=_WANDB,
        ),
    ] = None
    wandb_project: Annotated[
        str | None,
        _option(
            "--wandb-project",
            help="Log to this project (default, where another option of this group is given: "
            "the experiment's name).",
            panel=_WANDB,
        ),
    ] = None
    wandb_run_name: Annotated[
        str | None,
        _option("--wandb-run-name", help="Name of the run.", panel=_WANDB),
    ] = None


@dataclass(frozen=True)
class RayOptions:
    """Where it runs, and how much of it is shown."""

    ray_address: Annotated[
        str | None,
        _option(
            "--ray-address",
            help="Use the cluster at this address (default: $RAY_ADDRESS, else a new one on "
            "this machine).",
            panel=_RAY,
        ),
    ] = None
    ray_num_cpus: Annotated[
        int | None,
        _option(
            "--ray-num-cpus",
            help="Logical CPUs of the new cluster (default: those of the machine).",
            panel=_RAY,
        ),
    ] = None
    ray_num_gpus: Annotated[
        int | None,
        _option(
            "--ray-num-gpus",
            help="GPUs of the new cluster (default: those of the machine).",
            panel=_RAY,
        ),
    ] = None
    ray_object_store_memory: Annotated[
        int | None,
        _option(
            "--ray-object-store-memory",
            help="Bytes of the new cluster's object store.",
            panel=_RAY,
        ),
    ] = None
    ray_ui: Annotated[
        bool,
        _option("--ray-ui", help="Start Ray's dashboard, and say how to open it.", panel=_RAY),
    ] = False
    log_info: Annotated[
        bool,
        _option(
            "--log-info",
            "-v",
            help="Also show Ray's and the workers' logs, and Tune's tables.",
            panel=_RAY,
        ),
    ] = False
    log_debug: Annotated[
        bool,
        _option("--log-debug", "-vv", help="As -v, with debug messages.", panel=_RAY),
    ] = False

    @property
    def verbosity(self) -> int:
        """0 by default, 1 with ``-v``, 2 with ``-vv``."""
        return 2 if self.log_debug else int(self.log_info)


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
    own = [p for p in parameters.values() if p.name != "options"]
    names = [field.name for field in dataclasses.fields(kind)]
    added = [
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

    wrapper.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    return wrapper
