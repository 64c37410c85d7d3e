"""Reading a `.py` file that defines an experiment as an AlgorithmConfig."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from text_duel.errors import ConfigError


def read_python(path: Path) -> dict[str, Any]:
    """Runs a Python file and takes its `config` and, where it has one, its `stop`.

    Args:
        path: The file. It may import what lies beside it.

    Returns:
        An experiment in the schema of a YAML file.

    Raises:
        ConfigError: The file cannot be run, or defines no `config`.
    """
    module = _run(path)
    config = getattr(module, "config", None)
    if not isinstance(config, AlgorithmConfig):
        found = "none" if config is None else f"a {type(config).__name__}"
        raise ConfigError(
            f"{path}: a Python file defines `config`, an AlgorithmConfig such as "
            f"SEAConfig(); found {found}"
        )
    if config.algo_class is None:
        raise ConfigError(f"{path}: {type(config).__name__} belongs to no algorithm")
    experiment: dict[str, Any] = {"run": config.algo_class, "config": _changed(config)}
    if hasattr(module, "stop"):
        experiment["stop"] = module.stop
    return experiment


def _changed(config: AlgorithmConfig) -> dict[str, Any]:
    """The keys that are not at their defaults: what a YAML file would hold."""
    defaults = config.algo_class.get_default_config().to_dict()
    missing = object()
    return {
        key: value for key, value in config.to_dict().items() if defaults.get(key, missing) != value
    }


def _run(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"cannot read {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if Path(f.filename) == path), "?")
        raise ConfigError(f"{path}:{line}: {type(error).__name__}: {error}") from error
    # Classes that the file defines reach the workers, which cannot import it.
    cloudpickle.register_pickle_by_value(module)
    return module
