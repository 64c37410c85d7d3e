"""What a learner publishes, on its way to a process with an engine."""

from __future__ import annotations

import pickle
from pathlib import Path

from rllib_sea.policy.audit import PublishedWeights


def write_published(published: PublishedWeights, file: Path) -> None:
    """As arrays, in a tenth of `torch.save`'s time."""
    with file.open("wb") as opened:
        pickle.dump(published, opened, protocol=5)


def read_published(file: Path) -> PublishedWeights:
    """What :func:`write_published` wrote."""
    with file.open("rb") as opened:
        return pickle.load(opened)
