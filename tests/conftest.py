"""What tests of several folders share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

# What Ray itself chooses for a cluster that it starts; whoever joins one by its address has to say
# so, before Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "token")

# Modules of tests import torch, Transformers, Ray and RLlib: none of that is garbage, now or later.
gc.disable()

# What takes minutes, longest first: begun last, it would be waited for at the end.
LONGEST = (
    "tests/test_resume.py",
    "tests/labelling/test_people_run.py",
    "tests/policy/test_weight_sync.py",
    "tests/test_sea.py",
    "tests/policy_update/test_train_run.py",
    "tests/test_command.py",
    "tests/studies/test_language_model_tiers.py",
    "tests/test_tuned_examples.py",
    "tests/test_faults.py",
    "tests/cli",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        starts = (i for i, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(starts, len(LONGEST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer Llama with random weights; not to be written to."""
    from tests.helpers.tiny_models import make_tiny_policy  # seconds, which not all tests need

    return make_tiny_policy(tmp_path_factory.mktemp("models") / "tiny")
