"""What an env runner's methods are wrapped in: failures as data, seconds by name."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from rllib_sea.duels.rounds import Failure

P = ParamSpec("P")
R = TypeVar("R")


def returns_failures(method: Callable[P, R]) -> Callable[P, R | Failure]:
    """A method that returns what went wrong as data: see :class:`Failure`."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | Failure:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())

    return call


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the block's seconds to those of a name."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
