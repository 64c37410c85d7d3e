"""Ray, started or joined for one command, and as quiet as its options say."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.options import RayOptions
from text_duel.errors import ConfigError

_LEVELS = (logging.ERROR, logging.INFO, logging.DEBUG)


def set_log_levels(verbosity: int) -> None:
    """Silences libraries in this process, as far as ``-v`` (1) or ``-vv`` (2) does not ask."""
    for name in ("ray", "ray.rllib", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(_LEVELS[verbosity])
    if verbosity == 0:
        # What libraries tell those who program with them.
        warnings.simplefilter("ignore")
        # Tune logs a trial's error at once, and that trials failed: the summary says both.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def check_ray_options(options: RayOptions) -> None:
    """Checks the options before anything starts.

    Raises:
        ConfigError: They contradict each other, or a number makes no sense.
    """
    for name, value, low in (
        ("--ray-num-cpus", options.ray_num_cpus, 1),
        ("--ray-num-gpus", options.ray_num_gpus, 0),
    ):
        if value is not None and value < low:
            raise ConfigError(f"{name}: {value} is less than {low}")
        if value is not None and _address(options) != "local":
            raise ConfigError(f"{name}: the cluster at {_address(options)} has its own")


@contextmanager
def ray_session(options: RayOptions, console: TextConsole) -> Iterator[None]:
    """Starts a cluster on this machine, or joins one; leaves it at the end.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    # Paths in a configuration are relative to where the command was typed, also in workers.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    address = _address(options)
    own = {}
    if address == "local":
        own = {
            "num_cpus": options.ray_num_cpus,
            "num_gpus": options.ray_num_gpus,
            "include_dashboard": options.ray_ui,
        }
    try:
        context = ray.init(
            address=address,
            log_to_driver=options.verbosity > 0,
            logging_level=_LEVELS[options.verbosity],
            **own,
        )
    except ConnectionError as error:
        raise ConfigError(
            f"--ray-address: no Ray cluster answers at {address!r} (one that asks for a token "
            "does so if RAY_AUTH_MODE is token)"
        ) from error
    try:
        if options.ray_ui:
            console.say(_how_to_open(context.dashboard_url))
        yield
    finally:
        ray.shutdown()


def _address(options: RayOptions) -> str:
    return options.ray_address or os.environ.get("RAY_ADDRESS") or "local"


def _how_to_open(url: str | None) -> str:
    if not url:
        return "Ray's dashboard does not run on this cluster"
    token = ""
    if os.environ.get("RAY_AUTH_MODE") == "token":
        token = " (it asks for a token, once: `ray get-auth-token` prints it)"
    return f"Ray's dashboard: http://{url}{token}"
