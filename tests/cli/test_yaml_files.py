from __future__ import annotations

from pathlib import Path

import pytest

from rllib_sea.cli.yaml_files import parse_option, read_yaml
from text_duel.errors import ConfigError


@pytest.mark.parametrize("text", ["5e-6", "5.0e-6", "5E-6", ".000005"])
def test_numbers_are_numbers(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(f"lr: {text}\n")
    assert read_yaml(file) == {"lr": 5e-6}


def test_anchors_may_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(file)["b"] == {"x": 1, "y": 3}


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(ConfigError, match="key 'a'"):
        read_yaml(file)


def test_a_folder_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path)
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="it is not text"):
        read_yaml(file)


def test_an_option_takes_json_and_yaml() -> None:
    assert parse_option("--stop", '{"round": 1}') == {"round": 1}
    assert parse_option("--stop", "{round: 1}") == {"round": 1}
    assert parse_option("--stop", "round: 1") == {"round": 1}
    with pytest.raises(ConfigError, match="--stop: '3' is no mapping"):
        parse_option("--stop", "3")
