"""What is read of a model: weights as safetensors, and none of its own code.

A pickle (``pytorch_model.bin``) can run anything when it is read, and so can the Python files
that a model's ``auto_map`` names. Transformers reads the first if there is nothing else, and
asks on the terminal about the second; here neither is done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

from text_duel.errors import ConfigError

# For every `from_pretrained`, and for those that read weights.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
SAFE_WEIGHTS: dict[str, Any] = NO_CODE | {"use_safetensors": True}

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def check_model_folder(folder: Path, key: str) -> None:
    """Checks that a model can be read safely; reads its configuration only.

    Args:
        folder: The model's, with a ``config.json``.
        key: What named it, for the message.

    Raises:
        ConfigError: There are no safetensors, or its class is code of its own.
    """
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
        reason = ""
        if pickles:
            reason = (
                f", only {pickles[0]}: a pickle can run code when it is read; where you trust it, "
                "load it yourself and write it with `save_pretrained`"
            )
        raise ConfigError(f"{key}: the folder {folder.absolute()} has no *.safetensors{reason}")
    try:
        transformers.AutoConfig.from_pretrained(folder, **NO_CODE)
    except (OSError, ValueError) as error:
        raise _refusal(folder, "config.json", key, error) from error


def load_tokenizer(path: str | Path, key: str = "model") -> Any:
    """A model's tokenizer.

    Args:
        path: The model's folder, or its name on the hub.
        key: What named it, for the message.

    Raises:
        ConfigError: Its class is code of its own.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(path, **NO_CODE)
    except ValueError as error:
        raise _refusal(Path(path), "tokenizer_config.json", key, error) from error


def _refusal(folder: Path, name: str, key: str, error: Exception) -> ConfigError:
    """Why a file of a model cannot be read, in one line."""
    try:
        own_code = "auto_map" in json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        own_code = False
    if not own_code:
        return ConfigError(f"{key}: {folder}: {' '.join(str(error).split())}")
    return ConfigError(
        f"{key}: {folder} brings code of its own (auto_map in {name}), which is never run: its "
        "class must be one that Transformers has"
    )
