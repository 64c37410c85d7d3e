"""The key that SEA adds to RLlib's `resources()`."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_sea.settings.checks import check_int
from rllib_sea.settings.declaration import key


@dataclass(kw_only=True, eq=False, repr=False)
class Resources:
    """What a run computes on."""

    num_threads: int | None = key(
        None, "Torch threads of each stage; None: all cores.", check_int, 1, optional=True
    )
