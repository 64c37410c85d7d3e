"""docs/methods.md names every method, and only what there is; docs/api/ has its function."""

from __future__ import annotations

import re
from pathlib import Path

from rllib_sea.cli.recipes import recipes
from rllib_sea.exploration import STRATEGIES
from rllib_sea.exploration.prompt_acquisition import ACQUISITIONS
from rllib_sea.policy_update.objectives import optimism
from rllib_sea.policy_update.objectives.losses import LOSSES
from rllib_sea.policy_update.objectives.optimism import OPTIMISM

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "methods.md").read_text()


def test_every_strategy_loss_and_term_is_named() -> None:
    for name in STRATEGIES:
        assert f"exploration_strategy: {name}`" in TABLE, name
    for name in LOSSES:
        assert f"| `{name}` |" in TABLE, name
    for name in OPTIMISM:
        assert f"optimism: {name}`" in TABLE, name
    explained = (ROOT / "docs" / "exploration.md").read_text()
    for name in [*STRATEGIES, *ACQUISITIONS]:
        assert f"| `{name}` |" in explained, name
    explained = (ROOT / "docs" / "losses.md").read_text()
    for name in [*LOSSES, *OPTIMISM]:
        assert f"| `{name}` |" in explained, name


def test_every_strategy_and_loss_is_in_the_reference() -> None:
    reference = "".join(file.read_text() for file in (ROOT / "docs" / "api").glob("*.md"))
    functions = [strategy.select for strategy in STRATEGIES.values()]
    functions += [loss.function for loss in LOSSES.values()]
    functions += [getattr(optimism, name) for name in OPTIMISM]
    for function in functions:
        assert f"::: {function.__module__}.{function.__name__}\n" in reference, function


def test_every_recipe_is_named() -> None:
    named = set(re.findall(r"`([a-z0-9_.]+_tldr(?:_pythia_[0-9.]+b)?)`", TABLE))
    families = re.findall(r"`([a-z_]+_tldr_pythia_)\*`", TABLE)
    for name in recipes().keys() - {"sea_tldr_search", "sea_tldr_people"}:  # no method
        assert name in named or any(name.startswith(family) for family in families), name
    assert named <= set(recipes())


def test_every_test_that_is_named_exists() -> None:
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
    assert len(tests) > 20
    for file, name in tests:
        assert f"def {name}(" in (ROOT / file).read_text(), (file, name)
