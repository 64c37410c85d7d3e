"""What runs in the process of Ray Train's controller."""

from __future__ import annotations

from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback


class Announcement(ControllerCallback):
    """Tells the feed who the controller is: ``fit()`` keeps that to itself.

    Args:
        feed: The actor's handle.
    """

    def __init__(self, feed: Any) -> None:
        self._feed = feed

    def after_controller_start(self, train_run_context: Any) -> None:
        """Called by Ray Train, in the controller."""
        controller = ray.get_runtime_context().current_actor
        self._feed.announce_controller.remote([controller])
