"""What tests of several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tiny_models import make_tiny_policy


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer Llama with random weights; not to be written to."""
    return make_tiny_policy(tmp_path_factory.mktemp("models") / "tiny")
