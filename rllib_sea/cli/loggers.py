"""Where an experiment's metrics go besides its files: MLflow and Weights & Biases.

Both are Ray's own callbacks, checked before anything starts; what they cannot log later is said,
and never ends a run that has paid for labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from rllib_sea.cli.console import TextConsole
from rllib_sea.report.runs import without_secrets
from text_duel.errors import ConfigError, nearest, one_line

if TYPE_CHECKING:
    from rllib_sea.cli.experiments import Experiment

# Each logger's keys, which are its callback's, by what they hold. Secrets are none of them: a
# recipe is passed on.
KEYS: dict[str, dict[str, type]] = {
    "mlflow": {
        "tracking_uri": str,
        "registry_uri": str,
        "experiment_name": str,
        "tags": dict,
        "save_artifact": bool,
        "log_params_on_trial_end": bool,
    },
    "wandb": {
        "project": str,
        "entity": str,
        "group": str,
        "job_type": str,
        "mode": str,
        "notes": str,
        "tags": list,
        "excludes": list,
        "upload_checkpoints": bool,
        "upload_timeout": int,
    },
}
_EXPECTED = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    list: "a list of texts",
    dict: "a mapping of names to texts",
}
_MODES = ("online", "offline", "disabled")
# What is secret, and where it is read from instead.
_SECRETS = {
    "tracking_token": "set MLFLOW_TRACKING_TOKEN in the environment",
    "api_key": "set WANDB_API_KEY in the environment, or run `wandb login`",
}
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_PATIENCE_S = 10
# MLflow waits inside the command: by default two minutes, eight times over, for each metric.
_MLFLOW_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_PATIENCE_S),
}


def check_loggers(written: Mapping[str, Any]) -> None:
    """Checks that each logger is installed, understood, and answers.

    Args:
        written: What stands under ``loggers``: by a name of :data:`KEYS`, that logger's keys.

    Raises:
        ConfigError: One line: the logger, the key, the value and what was expected.
    """
    for name, options in written.items():
        if name not in KEYS:
            raise ConfigError(
                f"loggers: unknown logger {name!r}{nearest(str(name), KEYS)}; there are "
                f"{', '.join(KEYS)}"
            )
        if options is not None and not isinstance(options, Mapping):
            raise ConfigError(f"loggers: {name}: {options!r} is not a mapping of keys to values")
        for key, value in (options or {}).items():
            _check_value(name, key, value)
        with _one_line(name):
            _CHECKS[name](options or {})


def logger_callbacks(experiment: Experiment, console: TextConsole) -> list[LoggerCallback]:
    """The callbacks of an experiment's loggers.

    Args:
        experiment: One that was checked.
        console: What cannot be logged is said there.
    """
    return [
        _Guarded(name, _MAKERS[name](experiment.name, options or {}), console)
        for name, options in experiment.spec["loggers"].items()
    ]


def _check_value(name: str, key: Any, value: Any) -> None:
    where = f"loggers: {name}: {key}"
    if key in _SECRETS:
        raise ConfigError(f"{where}: no secret stands in a recipe: {_SECRETS[key]}")
    if key not in KEYS[name]:
        raise ConfigError(
            f"loggers: {name}: unknown key {key!r}{nearest(str(key), KEYS[name])}; there are "
            f"{', '.join(KEYS[name])}"
        )
    kind = KEYS[name][key]
    inside = value.values() if isinstance(value, Mapping) else value if kind is list else ()
    if type(value) is not kind or not all(isinstance(text, str) for text in inside):
        raise ConfigError(f"{where}: {value!r} is not {_EXPECTED[kind]}")
    if isinstance(value, str) and _CREDENTIALS.search(value):
        raise ConfigError(
            f"{where}: no secret stands in a recipe: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD in the environment"
        )
    if key == "mode" and value not in _MODES:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(_MODES)}")


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turns what a package raises, which may be anything, into one line without credentials."""
    try:
        yield
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'loggers: {name}: the package {error.name!r} is missing: pip install "rllib-sea'
            f'[{name}]"{_MORE.get(str(error.name), "")}'
        ) from error
    except Exception as error:
        raise ConfigError(f"loggers: {name}: {_text(error)}") from error


# MLflow's client speaks to a server; a database of one's own needs all of MLflow.
_MORE = {"sqlalchemy": ", and `mlflow` itself for a database that no server is before"}


def _text(error: Exception) -> str:
    # Ray wraps what an actor raised in a text with its traceback.
    cause: Exception = getattr(error, "cause", None) or error
    return _CREDENTIALS.sub("://", f"{type(cause).__name__}: {one_line(cause)}")


# -- MLflow ---------------------------------------------------------------------------------


def _check_mlflow(options: Mapping[str, Any]) -> None:
    from mlflow import MlflowClient

    with _environment(_MLFLOW_PATIENCE):
        client = MlflowClient(options.get("tracking_uri"), options.get("registry_uri"))
        client.search_experiments(max_results=1)


def _make_mlflow(name: str, options: Mapping[str, Any]) -> LoggerCallback:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    os.environ.update({key: os.environ.get(key, text) for key, text in _MLFLOW_PATIENCE.items()})

    class OneRunPerTrial(MLflowLoggerCallback):
        """Ray's callback, which would begin another run when a trial is resumed.

        Nor does it end the runs of trials that somebody stopped.
        """

        def setup(self, *arguments: Any, **info: Any) -> None:
            super().setup(*arguments, **info)
            self._ended: set[Trial] = set()
            log = self.mlflow_util.log_params
            self.mlflow_util.log_params = lambda params_to_log, **run: log(
                without_secrets(params_to_log), **run
            )

        def log_trial_start(self, trial: Trial) -> None:
            util = self.mlflow_util
            if trial not in self._trial_runs:
                client = util._get_client()
                mine = f"tags.trial_id = '{trial.trial_id}'"
                for run in client.search_runs([util.experiment_id], mine, max_results=1):
                    client.update_run(run.info.run_id, status="RUNNING")
                    self._trial_runs[trial] = run.info.run_id
            self.tags["trial_id"] = trial.trial_id
            super().log_trial_start(trial)

        def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
            super().log_trial_end(trial, failed)
            self._ended.add(trial)

        def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
            for trial in self._trial_runs.keys() - self._ended:
                self.mlflow_util.end_run(status="KILLED", run_id=self._trial_runs[trial])

    tags = dict(options.get("tags", {}))
    return OneRunPerTrial(**{"experiment_name": name, **options, "tags": tags})


# -- Weights & Biases -----------------------------------------------------------------------


def _wandb_mode(options: Mapping[str, Any]) -> str:
    return options.get("mode") or os.environ.get("WANDB_MODE") or "online"


def _check_wandb(options: Mapping[str, Any]) -> None:
    import wandb

    if _wandb_mode(options) != "online":
        return
    if not wandb.login(prompt=False, verify=True, timeout=_PATIENCE_S):
        raise ConfigError(
            f"loggers: wandb: there is no key for {wandb.Settings().base_url}: "
            f"{_SECRETS['api_key']}; or set mode: offline, and run `wandb sync` later"
        )


def _make_wandb(name: str, options: Mapping[str, Any]) -> LoggerCallback:
    from ray.air.integrations.wandb import WandbLoggerCallback, _WandbLoggingActor
    from ray.air.util.node import _force_on_current_node

    # By this alone Ray's callback knows that it needs no key.
    os.environ["WANDB_MODE"] = _wandb_mode(options)

    class Keyed(_WandbLoggingActor):
        """Ray's actor; it is given the key in a way that Ray does not log."""

        def __init__(self, *arguments: Any, key: str | None, **options: Any) -> None:
            if key is not None:
                os.environ["WANDB_API_KEY"] = key
            super().__init__(*arguments, **options)

    class Heard(WandbLoggerCallback):
        """Ray's callback, which does not hear what its actors raise, nor that a run was stopped."""

        def setup(self, *arguments: Any, **info: Any) -> None:
            super().setup(*arguments, **info)
            self._remote_logger_class = ray.remote(num_cpus=0, **_force_on_current_node())(Keyed)

        def _start_logging_actor(self, trial: Trial, *arguments: Any, **options: Any) -> None:
            if "://" not in trial.path:
                # Tune copies what is beside its own files before the actor has written all.
                Path(trial.path).mkdir(parents=True, exist_ok=True)
                options = {"dir": trial.path, **options}
            options["config"] = without_secrets(options["config"])
            options["key"] = os.environ.get("WANDB_API_KEY")
            super()._start_logging_actor(trial, *arguments, **options)

        def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
            super().log_trial_result(iteration, trial, result)
            self._hear(self._trial_logging_futures[trial])

        def _cleanup_logging_actor(self, trial: Trial, **options: Any) -> None:
            future = self._trial_logging_futures[trial]
            try:
                self._hear(future)
            finally:
                super()._cleanup_logging_actor(trial, **options)

        def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
            for trial in self._trial_queues:
                self._signal_logging_actor_stop(trial)
            super().on_experiment_end(trials, **info)

        def _hear(self, future: Any) -> None:
            if ray.wait([future], timeout=0)[0]:
                ray.get(future)

    # A trial that is resumed goes on in its run.
    return Heard(**{"project": name, "resume": "allow", **options})


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "mlflow": _check_mlflow,
    "wandb": _check_wandb,
}
_MAKERS: dict[str, Callable[[str, Mapping[str, Any]], LoggerCallback]] = {
    "mlflow": _make_mlflow,
    "wandb": _make_wandb,
}


class _Guarded(LoggerCallback):
    """A logger that cannot end a run, and logs what docs/metrics.md lists.

    Args:
        name: The logger's.
        callback: Ray's.
        console: Where it is said, once, that something is not logged.
    """

    def __init__(self, name: str, callback: LoggerCallback, console: TextConsole) -> None:
        self._name, self._callback, self._console = name, callback, console
        self._works = True

    def setup(self, **info: Any) -> None:
        with _one_line(self._name):
            self._callback.setup(**info)

    def log_trial_start(self, trial: Trial) -> None:
        self._try(self._callback.log_trial_start, trial)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        # The settings are logged once, as such.
        metrics = {key: value for key, value in result.items() if key != "config"}
        self._try(self._callback.log_trial_result, iteration, trial, metrics)

    def log_trial_save(self, trial: Trial) -> None:
        self._try(self._callback.log_trial_save, trial)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self._try(self._callback.log_trial_end, trial, failed)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._try(self._callback.on_experiment_end, trials, **info)

    def _try(self, log: Callable[..., None], *arguments: Any, **info: Any) -> None:
        try:
            log(*arguments, **info)
        except Exception as error:
            if self._works:
                self._console.say(
                    f"loggers: {self._name}: not logged, and the run goes on: {_text(error)}"
                )
            self._works = False
        else:
            self._works = True


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables that are not set, for a while."""
    missing = {key: text for key, text in values.items() if key not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for key in missing:
            del os.environ[key]
