"""Experiments as people write them, checked before anything starts.

The schema is RLlib's: ``name: {env, run, stop, config, num_samples, checkpoint_config, ...}``.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.registry import ALGORITHMS
from ray.tune.error import TuneError
from ray.tune.registry import get_trainable_cls
from ray.tune.schedulers import SCHEDULER_IMPORT, TrialScheduler, create_scheduler

from rllib_sea import SEAConfig
from rllib_sea.checkpointing.manifest import DamagedCheckpointError, check_whole
from rllib_sea.cli.extends import read_experiments
from rllib_sea.cli.options import TrainOptions
from rllib_sea.cli.python_files import read_python
from rllib_sea.cli.result_keys import check_result_key
from rllib_sea.cli.search_space import variants
from rllib_sea.cli.yaml_files import parse_option
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError, nearest

EXPERIMENT_KEYS = (
    "env",
    "run",
    "stop",
    "config",
    "num_samples",
    "checkpoint_config",
    "scheduler",
    "scheduler_config",
    "storage_path",
    "restore",
    "max_failures",
    "max_concurrent_trials",
    "time_budget_s",
)
# Keys of older versions of the schema, and what to write instead.
OLD_KEYS = {
    "checkpoint_freq": "checkpoint_config: {checkpoint_frequency: ...}",
    "checkpoint_at_end": "checkpoint_config: {checkpoint_at_end: ...}",
    "keep_checkpoints_num": "checkpoint_config: {num_to_keep: ...}",
    "checkpoint_score_attr": "checkpoint_config: {checkpoint_score_attribute: ...}",
    "local_dir": "storage_path",
}
CHECKPOINT_KEYS = (
    "num_to_keep",
    "checkpoint_score_attribute",
    "checkpoint_score_order",
    "checkpoint_frequency",
    "checkpoint_at_end",
)


@dataclass(frozen=True)
class Experiment:
    """One experiment, checked: all trials of one search.

    Attributes:
        name: Of the folder of results under the storage path.
        run: A trainable's name, or its class.
        config: As written: values may be search spaces.
        stop: Result keys and the values that end a trial.
        num_samples: How often each grid variant is run.
        checkpoint: Arguments of Tune's CheckpointConfig.
        scheduler: Name of Tune's trial scheduler.
        scheduler_config: Its arguments.
        storage_path: Absolute folder, or URI, of all results.
        restore: A checkpoint that every trial starts from.
        max_failures: How often a failed trial is tried again.
        max_concurrent_trials: How many trials may run at once; None: as many as fit.
        time_budget_s: Seconds after which all trials are stopped.
        cpus: Logical CPUs of the largest trial; None: Tune counts them by itself.
        gpus: GPUs likewise.
    """

    name: str
    run: str | type
    config: Mapping[str, Any]
    stop: Mapping[str, float]
    num_samples: int
    checkpoint: Mapping[str, Any]
    scheduler: str
    scheduler_config: Mapping[str, Any]
    storage_path: str
    restore: str | None
    max_failures: int
    max_concurrent_trials: int | None
    time_budget_s: float | None
    cpus: float | None
    gpus: float | None

    def make_scheduler(self) -> TrialScheduler:
        """A new scheduler: it holds the state of one run.

        Raises:
            ConfigError: It does not take the arguments.
        """
        return _make_scheduler(self.scheduler, self.scheduler_config)


def experiments_from_file(path: Path, options: TrainOptions) -> list[Experiment]:
    """Reads a YAML file of experiments, or a Python file that defines one.

    Args:
        path: The file, ``.py`` or YAML.
        options: What is given here wins over the file.

    Raises:
        ConfigError: One line: the file, the key, the value and what was expected.
    """
    if path.suffix == ".py":
        written = {path.stem: read_python(path)}
    else:
        written = read_experiments(path)
        if not isinstance(written, dict) or not written:
            raise ConfigError(
                f"{path}: expected experiments, `name: {{run: ..., config: ...}}`, one or more"
            )
    if options.experiment_name is not None:
        if len(written) > 1:
            raise ConfigError(
                f"--experiment-name: {path} has {len(written)} experiments, with names of their own"
            )
        written = {options.experiment_name: next(iter(written.values()))}
    return [_experiment(name, spec, options) for name, spec in written.items()]


def experiment_from_options(
    run: str, env: str | None, config: str | None, options: TrainOptions
) -> Experiment:
    """The experiment of ``rllib train --run ...``.

    Args:
        run: A trainable's name.
        env: An environment's.
        config: A mapping in JSON or YAML.
        options: The other options.

    Raises:
        ConfigError: One line: the option, the value and what was expected.
    """
    spec: dict[str, Any] = {"run": run}
    if env is not None:
        spec["env"] = env
    if config is not None:
        spec["config"] = parse_option("--config", config)
    return _experiment(options.experiment_name or run, spec, options)


def _experiment(name: Any, spec: Any, options: TrainOptions) -> Experiment:
    try:
        if not isinstance(name, str) or not name or name in (".", "..") or "/" in name:
            raise ConfigError(f"{name!r} is no name of a folder")
        if not isinstance(spec, Mapping):
            raise ConfigError(f"{spec!r} is not a mapping of keys to values")
        return _checked(name, _with_options(spec, options))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _with_options(spec: Mapping[str, Any], options: TrainOptions) -> dict[str, Any]:
    """What is written, with the given options in its place."""
    spec = dict(spec)
    if options.stop is not None:
        spec["stop"] = parse_option("--stop", options.stop)
    if options.scheduler_config is not None:
        spec["scheduler_config"] = parse_option("--scheduler-config", options.scheduler_config)
    for key in ("num_samples", "storage_path", "scheduler", "restore"):
        if getattr(options, key) is not None:
            spec[key] = getattr(options, key)

    checkpoint: dict[str, Any] = {
        "checkpoint_frequency": options.checkpoint_freq,
        "checkpoint_at_end": options.checkpoint_at_end,
        "num_to_keep": options.keep_checkpoints_num,
    }
    if options.checkpoint_score_attr is not None:
        attribute = options.checkpoint_score_attr
        checkpoint["checkpoint_score_attribute"] = attribute.removeprefix("min-")
        checkpoint["checkpoint_score_order"] = "min" if attribute.startswith("min-") else "max"
    given = {key: value for key, value in checkpoint.items() if value is not None}
    if given:
        spec["checkpoint_config"] = _mapping(spec, "checkpoint_config") | given
    return spec


def _checked(name: str, spec: Mapping[str, Any]) -> Experiment:
    for key in spec:
        if key in OLD_KEYS:
            raise ConfigError(f"key {key!r}: write {OLD_KEYS[key]}")
        if key not in EXPERIMENT_KEYS:
            raise ConfigError(f"unknown key {key!r}{nearest(str(key), EXPERIMENT_KEYS)}")
    if "run" not in spec:
        raise ConfigError("key 'run' is missing: what to train, such as SEA")
    trainable = _trainable(spec["run"])
    config = _config(spec)
    cpus, gpus = _check_config(trainable, config)
    is_sea = cpus is not None

    stop = _mapping(spec, "stop")
    for key, value in stop.items():
        check.check_number(f"stop: {key}", value, -math.inf)
        if is_sea:
            check_result_key("stop", key)
    num_samples = spec.get("num_samples", 1)
    check.check_int("num_samples", num_samples, 1)
    max_failures = spec.get("max_failures", 0)
    check.check_int("max_failures", max_failures, 0)
    max_concurrent_trials = spec.get("max_concurrent_trials")
    check.check_int("max_concurrent_trials", max_concurrent_trials, 1, optional=True)
    if spec.get("time_budget_s") is not None:
        check.check_number("time_budget_s", spec["time_budget_s"], open_low=True)
    checkpoint = {"checkpoint_at_end": issubclass(trainable, Algorithm)}
    checkpoint |= _mapping(spec, "checkpoint_config")
    _check_checkpoint(checkpoint, is_sea)
    scheduler = spec.get("scheduler", "fifo")
    scheduler_config = _mapping(spec, "scheduler_config")
    _make_scheduler(scheduler, scheduler_config)
    if is_sea and "metric" in scheduler_config:
        check_result_key("scheduler_config: metric", scheduler_config["metric"])

    return Experiment(
        name=name,
        run=spec["run"],
        config=config,
        stop=stop,
        num_samples=num_samples,
        checkpoint=checkpoint,
        scheduler=scheduler,
        scheduler_config=scheduler_config,
        storage_path=_storage_path(spec.get("storage_path")),
        restore=_restore(spec.get("restore"), is_sea),
        max_failures=max_failures,
        max_concurrent_trials=max_concurrent_trials,
        time_budget_s=spec.get("time_budget_s"),
        cpus=cpus,
        gpus=gpus,
    )


def _mapping(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = spec.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: {value!r} is not a mapping of keys to values")
    return dict(value)


def _trainable(run: Any) -> type[Any]:
    if isinstance(run, type):
        return run
    if not isinstance(run, str):
        raise ConfigError(f"run: {run!r} is no name of an algorithm")
    try:
        return get_trainable_cls(run)
    except TuneError as error:
        names = ["SEA", *ALGORITHMS]
        raise ConfigError(
            f"run: {run!r} is neither SEA nor known to RLlib or Tune{nearest(run, names)}"
        ) from error


def _config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as written, the environment in it, as in RLlib."""
    config = _mapping(spec, "config")
    if "env" in spec and config.setdefault("env", spec["env"]) != spec["env"]:
        raise ConfigError(f"env: {spec['env']!r} here, {config['env']!r} in config")
    return config


def _check_config(
    trainable: type[Any], config: Mapping[str, Any]
) -> tuple[float | None, float | None]:
    """Checks every variant of a search; returns CPUs and GPUs of the largest, for SEA."""
    if not issubclass(trainable, Algorithm):
        return None, None
    default = trainable.get_default_config()
    if not isinstance(default, SEAConfig):
        valid = default.to_dict().keys()
        for key in config:
            if key not in valid:
                raise ConfigError(f"unknown config key {key!r}{nearest(str(key), valid)}")
        return None, None
    cpus = gpus = 0.0
    for variant in variants(config):
        try:
            checked = type(default).from_user_dict(variant)
        except ConfigError:
            raise
        # RLlib's own checks, of keys that SEA inherits.
        except (ValueError, TypeError) as error:
            raise ConfigError(f"config: {' '.join(str(error).split())}") from error
        cpus = max(cpus, checked.total_cpus())
        gpus = max(gpus, checked.total_gpus())
    return cpus, gpus


def _check_checkpoint(checkpoint: Mapping[str, Any], is_sea: bool) -> None:
    for key in checkpoint:
        if key not in CHECKPOINT_KEYS:
            raise ConfigError(
                f"unknown checkpoint_config key {key!r}{nearest(str(key), CHECKPOINT_KEYS)}"
            )
    check.check_int("num_to_keep", checkpoint.get("num_to_keep"), 1, optional=True)
    check.check_int("checkpoint_frequency", checkpoint.get("checkpoint_frequency", 0), 0)
    check.check_bool("checkpoint_at_end", checkpoint["checkpoint_at_end"])
    order = checkpoint.get("checkpoint_score_order", "max")
    check.check_choice("checkpoint_score_order", order, ("max", "min"))
    attribute = checkpoint.get("checkpoint_score_attribute")
    if is_sea and attribute is not None:
        check_result_key("checkpoint_score_attribute", attribute)


def _make_scheduler(name: str, config: Mapping[str, Any]) -> TrialScheduler:
    check.check_choice("scheduler", name, SCHEDULER_IMPORT)
    scheduler = SCHEDULER_IMPORT[name]
    # PB2 alone is behind a function: it needs packages of its own.
    valid: Sequence[str] = ()
    if inspect.isclass(scheduler):
        valid = list(inspect.signature(scheduler).parameters)
        for key in config:
            if key not in valid:
                raise ConfigError(f"unknown scheduler_config key {key!r}{nearest(key, valid)}")
    if "metric" in valid and not {"metric", "mode"} <= config.keys():
        raise ConfigError(f"scheduler_config: {name} needs a metric and a mode (max or min)")
    try:
        return create_scheduler(name, **config)
    except (AssertionError, ImportError, RuntimeError, TuneError, TypeError, ValueError) as error:
        raise ConfigError(f"scheduler_config: {' '.join(str(error).split())}") from error


def _storage_path(written: Any) -> str:
    if written is None:
        return str(Path("~/ray_results").expanduser())
    if not isinstance(written, str | os.PathLike) or not str(written):
        raise ConfigError(f"storage_path: {written!r} is no folder")
    if "://" in str(written):
        return str(written)
    return str(Path(written).expanduser().absolute())


def _restore(written: Any, is_sea: bool) -> str | None:
    if written is None:
        return None
    folder = Path(str(written)).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"restore: there is no checkpoint folder {folder}")
    if is_sea:
        try:
            check_whole(folder)
        except DamagedCheckpointError as error:
            raise ConfigError(f"restore: {error}") from error
    return str(folder)
