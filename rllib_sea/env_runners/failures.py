"""What goes wrong in a call to an env runner, as data."""

from __future__ import annotations

import traceback
from collections.abc import Callable
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
