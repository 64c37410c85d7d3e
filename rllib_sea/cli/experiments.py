"""Experiments as people write them, checked before anything starts.

The schema is RLlib's: ``name: {env, run, stop, config, num_samples, checkpoint_config, ...}``.
"""

from __future__ import annotations

import inspect
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.registry import ALGORITHMS
from ray.tune import CheckpointConfig
from ray.tune.error import TuneError
from ray.tune.registry import get_trainable_cls
from ray.tune.schedulers import SCHEDULER_IMPORT, TrialScheduler

from rllib_sea import SEAConfig, register
from rllib_sea.cli.evaluate import check_checkpoint
from rllib_sea.cli.extends import read_experiments
from rllib_sea.cli.loggers import check_loggers
from rllib_sea.cli.options import TrainOptions
from rllib_sea.cli.result_keys import check_result_key
from rllib_sea.cli.search_space import variants
from rllib_sea.cli.yaml_files import parse_option
from rllib_sea.settings import checks as check
from text_duel.errors import ConfigError, nearest
from text_duel.paths import user_path

# What may be written, and what holds if it is not.
DEFAULTS: dict[str, Any] = {
    "env": None,
    "run": None,
    "stop": {},
    "config": {},
    "num_samples": 1,
    "checkpoint_config": {},
    "scheduler": "fifo",
    "scheduler_config": {},
    "storage_path": "~/ray_results",
    "restore": None,
    "max_concurrent_trials": None,
    "loggers": {},
}


@dataclass(frozen=True)
class Experiment:
    """One experiment, checked: all trials of one search.

    Attributes:
        name: Of the folder of results under the storage path.
        spec: All keys of :data:`DEFAULTS`, as written; `storage_path` and `restore` are absolute.
        checkpoint: Which checkpoints Tune writes and keeps.
        scheduler: Tune's trial scheduler; it holds the state of one run.
        cpus: Logical CPUs of the largest trial of SEA; None: Tune counts those of another
            trainable by itself.
        gpus: GPUs likewise.
        configs: Of SEA, every variant of a search that must be valid, checked.
    """

    name: str
    spec: Mapping[str, Any]
    checkpoint: CheckpointConfig
    scheduler: TrialScheduler
    cpus: float | None
    gpus: float | None
    configs: tuple[SEAConfig, ...] = ()

    @property
    def is_sea(self) -> bool:
        """Whether SEA is trained."""
        return self.cpus is not None

    @property
    def folder(self) -> Path | None:
        """The folder of results; None if it is not on a local disk."""
        path = self.spec["storage_path"]
        return None if "://" in path else Path(path, self.name)


def experiments_from_file(path: Path, options: TrainOptions) -> list[Experiment]:
    """Reads a YAML file of experiments; the options win over it.

    Raises:
        ConfigError: One line: the file, the key, the value and what was expected.
    """
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
    """The experiment of ``rllib train --run ...``; `config` is a mapping in JSON or YAML.

    Raises:
        ConfigError: One line: the option, the value and what was expected.
    """
    spec: dict[str, Any] = {"run": run, "env": env}
    if config is not None:
        spec["config"] = parse_option("--config", config)
    return _experiment(options.experiment_name or run, spec, options)


def _experiment(name: Any, written: Any, options: TrainOptions) -> Experiment:
    try:
        if not isinstance(name, str) or not name or name in (".", "..") or "/" in name:
            raise ConfigError(f"{name!r} is no name of a folder")
        spec = _mapping("", written)
        for key in spec:
            if key not in DEFAULTS:
                raise ConfigError(f"unknown key {key!r}{nearest(str(key), DEFAULTS)}")
        for key in ("num_samples", "storage_path", "restore"):
            if getattr(options, key) is not None:
                spec[key] = getattr(options, key)
        if options.stop is not None:
            spec["stop"] = parse_option("--stop", options.stop)
        given = {key: value for key, value in spec.items() if value is not None}
        return _checked(name, DEFAULTS | given)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _checked(name: str, spec: dict[str, Any]) -> Experiment:
    for key, default in DEFAULTS.items():
        if isinstance(default, dict):
            spec[key] = _mapping(f"{key}: ", spec[key])
    trainable = _trainable(spec["run"])
    config = spec["config"]
    if spec["env"] is not None and config.setdefault("env", spec["env"]) != spec["env"]:
        raise ConfigError(f"env: {spec['env']!r} here, {config['env']!r} in config")
    configs = _check_config(trainable, config)
    is_sea = bool(configs)
    cpus = max((one.total_cpus() for one in configs), default=None)
    gpus = max((one.total_gpus() for one in configs), default=None)
    for key, value in spec["stop"].items():
        check.check_number(f"stop: {key}", value, -math.inf)
        if is_sea:
            check_result_key("stop", key)
    check.check_int("num_samples", spec["num_samples"], 1)
    check.check_int("max_concurrent_trials", spec["max_concurrent_trials"], 1, optional=True)
    spec["storage_path"] = _storage_path(spec["storage_path"], name)
    spec["restore"] = _restore(spec["restore"], is_sea)
    checkpoint = _checkpoint(
        {"checkpoint_at_end": issubclass(trainable, Algorithm)} | spec["checkpoint_config"]
    )
    check_loggers(spec["loggers"])
    scheduler = _scheduler(spec["scheduler"], spec["scheduler_config"])
    if is_sea:
        for where, key in (
            ("checkpoint_score_attribute", checkpoint.checkpoint_score_attribute),
            ("scheduler_config: metric", spec["scheduler_config"].get("metric")),
        ):
            if key is not None:
                check_result_key(where, key)
    return Experiment(name, spec, checkpoint, scheduler, cpus, gpus, configs)


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{where}{value!r} is not a mapping of keys to values")
    return dict(value or {})


def _trainable(run: Any) -> type[Any]:
    if run is None:
        raise ConfigError("key 'run' is missing: what to train, such as SEA")
    if not isinstance(run, str):
        raise ConfigError(f"run: {run!r} is no name of an algorithm")
    if run == "SEA":
        register()
    try:
        return get_trainable_cls(run)
    except TuneError as error:
        names = ["SEA", *ALGORITHMS]
        raise ConfigError(
            f"run: {run!r} is neither SEA nor known to RLlib or Tune{nearest(run, names)}"
        ) from error


def _check_config(trainable: type[Any], config: Mapping[str, Any]) -> tuple[SEAConfig, ...]:
    """Checks every variant of a search; returns them, for SEA."""
    if not issubclass(trainable, Algorithm):
        return ()
    default = trainable.get_default_config()
    if not isinstance(default, SEAConfig):
        valid = default.to_dict().keys()
        for key in config:
            if key not in valid:
                raise ConfigError(f"unknown config key {key!r}{nearest(str(key), valid)}")
        return ()
    configs = []
    for variant in variants(config):
        try:
            configs.append(type(default).from_user_dict(variant))
        except ConfigError:
            raise
        # RLlib's own checks, of keys that SEA inherits.
        except (ValueError, TypeError) as error:
            raise ConfigError(f"config: {' '.join(str(error).split())}") from error
    return tuple(configs)


def _checkpoint(written: Mapping[str, Any]) -> CheckpointConfig:
    check.check_int("num_to_keep", written.get("num_to_keep"), 1, optional=True)
    check.check_int("checkpoint_frequency", written.get("checkpoint_frequency", 0), 0)
    check.check_bool("checkpoint_at_end", written["checkpoint_at_end"])
    return _made("checkpoint_config", CheckpointConfig, written)


def _scheduler(name: Any, written: Mapping[str, Any]) -> TrialScheduler:
    check.check_choice("scheduler", name, SCHEDULER_IMPORT)
    make = SCHEDULER_IMPORT[name]
    if not inspect.isclass(make):
        # PB2 alone is behind a function: it needs packages of its own.
        make = make()
    return _made("scheduler_config", make, written)


def _made(where: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Makes an object of Tune; what Tune refuses is one line."""
    valid = [name for name in inspect.signature(make).parameters if not name.startswith("_")]
    for key in arguments:
        if key not in valid:
            raise ConfigError(f"unknown {where} key {key!r}{nearest(str(key), valid)}")
    if "metric" in valid and not {"metric", "mode"} <= arguments.keys():
        raise ConfigError(f"{where}: needs a metric and a mode (max or min)")
    try:
        return make(**arguments)
    except (AssertionError, ImportError, RuntimeError, TuneError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error


def _storage_path(written: Any, name: str) -> str:
    """The absolute path of all results; raises ConfigError unless a run's can be written there."""
    if not isinstance(written, str) or not written:
        raise ConfigError(f"storage_path: {written!r} is no folder")
    if "://" in written:
        return written
    path = user_path(written, "storage_path")
    if "~" in path.parts:
        raise ConfigError(f"storage_path: {written!r}: ~ is the home folder only where it begins")
    path = path.absolute()
    # What is there already, from the experiment's own folder upwards; the others are made.
    there = next(filter(os.path.exists, (path / name, *(path / name).parents)))
    if not there.is_dir():
        raise ConfigError(f"storage_path: {path}: {there} is a file, no folder")
    try:
        with tempfile.TemporaryDirectory(prefix=".rllib-", dir=there):
            pass
    except OSError as error:
        raise ConfigError(
            f"storage_path: {path}: nothing can be written to {there}: {error.strerror}"
        ) from error
    return str(path)


def _restore(written: Any, is_sea: bool) -> str | None:
    if written is None:
        return None
    folder = user_path(str(written), "restore").absolute()
    try:
        check_checkpoint(folder, of_sea=is_sea)
    except ConfigError as error:
        raise ConfigError(f"restore: {error}") from error
    return str(folder)
