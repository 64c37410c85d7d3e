from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_sea.cli.recipes import recipes

CHECKOUT = Path(__file__).parents[2] / "tuned_examples"


def test_the_list_names_every_recipe_and_its_purpose(rllib: Any) -> None:
    outcome = rllib("example", "list")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in CHECKOUT.glob("*.yaml"))
    assert any("SEA on the bundled prompts" in line for line in lines)


def test_get_prints_a_recipe(rllib: Any) -> None:
    text = (CHECKOUT / "sea_tldr.yaml").read_text()
    assert rllib("example", "get", "sea_tldr").out == text
    assert rllib("example", "get", "sea_tldr.yaml").out == text


def test_an_installed_wheel_finds_its_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rllib_sea" / "tuned_examples"
    folder.mkdir(parents=True)
    (folder / "one.yaml").write_text("# The only one.\n")
    monkeypatch.setattr("rllib_sea.cli.recipes._FOLDERS", (folder, tmp_path / "none"))
    assert recipes() == {"one": folder / "one.yaml"}
