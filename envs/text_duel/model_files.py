"""What is read of a model: weights as safetensors, and none of its own code.

A pickle (``pytorch_model.bin``) can run anything when it is read, and so can the Python files
that a model's ``auto_map`` names. Transformers reads the first if there is nothing else, and
asks on the terminal about the second; here neither is done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, logging

from text_duel.errors import ConfigError, one_line

# For every `from_pretrained`, and for those that read weights.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
SAFE_WEIGHTS: dict[str, Any] = NO_CODE | {"use_safetensors": True}

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_ADAPTER = "adapter_config.json"
_LFS_POINTER = b"version https://git-lfs"

# The context of a model that has no end of it: one that is recurrent, or biases by distance.
UNLIMITED = sys.maxsize
# Where configurations name their positions. All that vLLM reads, so that it derives no fewer.
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Models that count positions from the padding token's id + 1 on, as RoBERTa does: of its 514 rows
# 512 are for tokens.
_POSITIONS_AFTER_PADDING = frozenset(
    (
        "camembert",
        "data2vec-text",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    )
)


def context_length(config: Any, tokenizer: Any) -> int:
    """The most tokens that a model reads at once.

    Args:
        config: Its configuration; of one for several kinds of input, that of text counts.
        tokenizer: Its own, whose ``model_max_length`` counts if the configuration names none.

    Returns:
        At least 1; :data:`UNLIMITED` if neither names an end.
    """
    text = config.get_text_config()
    named = [getattr(text, key, None) for key in _CONTEXT_KEYS]
    # XLNet's is -1: it has no end.
    known = [int(number) for number in named if number is not None and number > 0]
    if not known:
        return min(int(tokenizer.model_max_length), UNLIMITED)
    offset = 0
    if text.model_type in _POSITIONS_AFTER_PADDING:
        offset = (text.pad_token_id or 0) + 1
    return min(known) - offset


def check_model_folder(folder: Path, key: str) -> None:
    """Checks that a model can be read safely and whole; reads no weights.

    Args:
        folder: The model's.
        key: What named it, for the message.

    Raises:
        ConfigError: It has no configuration or no safetensors, they are not whole, they are an
            adapter's or quantized, or its class is code of its own.
    """
    check_model_config(folder, key)
    files = weight_files(folder, key)
    if not files:
        here = f"{key}: the folder {folder.absolute()}"
        if (folder / _ADAPTER).is_file():
            raise _adapter(here)
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
        reason = ""
        if pickles:
            reason = (
                f", only {pickles[0]}: a pickle can run code when it is read; where you trust it, "
                "load it yourself and write it with `save_pretrained`"
            )
        raise ConfigError(f"{here} has no {SAFE_WEIGHTS_NAME} and no index of others{reason}")
    for file in files:
        _check_weights_file(file, key)


def weight_files(folder: Path, key: str) -> list[Path]:
    """The files that Transformers reads a model's weights from; those that an index names may lack.

    Raises:
        ConfigError: The index cannot be read.
    """
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        return []
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / name for name in sorted(names)]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"{key}: {index.absolute()} is no index of safetensors") from error


def check_model_config(folder: Path, key: str) -> transformers.PreTrainedConfig:
    """A model's configuration, if its weights are ones that can be read and trained as they are.

    Args:
        folder: The model's.
        key: What named it, for the message.

    Raises:
        ConfigError: There is none, it cannot be read, its class is code of its own, or it is
            quantized.
    """
    if not (folder / CONFIG_NAME).is_file():
        here = f"{key}: the folder {folder.absolute()}"
        if (folder / _ADAPTER).is_file():
            raise _adapter(here)
        raise ConfigError(f"{here} has no {CONFIG_NAME}")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **NO_CODE)
    except Exception as error:  # of many kinds: values of a wrong type are found by the classes
        raise _refusal(folder, CONFIG_NAME, key, error) from error
    for part in (config, config.get_text_config()):
        quantized = getattr(part, "quantization_config", None)
        if quantized is not None:
            method = quantized.get("quant_method") if isinstance(quantized, dict) else None
            raise ConfigError(
                f"{key}: {folder} is quantized ({method or 'quantization_config'} in "
                f"{CONFIG_NAME}), and its weights cannot be trained or replaced as they are: take "
                "the model that it was made from"
            )
    return config


def _adapter(here: str) -> ConfigError:
    return ConfigError(
        f"{here} holds an adapter ({_ADAPTER}), which is no model: merge it into its base model "
        "(peft: `merge_and_unload()`), and name the folder that `save_pretrained` writes"
    )


def _check_weights_file(file: Path, key: str) -> None:
    """Checks that a file of safetensors is there and as long as its header says."""
    named = f"{key}: {file.absolute()}"
    if not file.is_file():
        raise ConfigError(f"{named} is not there, though {SAFE_WEIGHTS_INDEX_NAME} names it")
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(max(8, len(_LFS_POINTER)))
        if start.startswith(_LFS_POINTER):
            raise ConfigError(
                f"{named} is a pointer of Git LFS, not the weights: fetch them with `git lfs pull`"
            )
        length = int.from_bytes(start[:8], "little")
        opened.seek(8)
        header = opened.read(length) if length <= size - 8 else b""
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        end = max((entry["data_offsets"][1] for entry in tensors), default=0)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError(f"{named} is no file of safetensors ({size} bytes)") from None
    expected = 8 + length + end
    if size != expected:
        raise ConfigError(
            f"{named} has {size} bytes, its header says {expected}: it was not copied whole"
        )


def load_model(
    auto_class: Any,
    path: str | Path,
    key: str,
    kind: str,
    *,
    may_lack: Collection[str] = (),
    **how: Any,
) -> Any:
    """A model with all its weights.

    Args:
        auto_class: Of Transformers, such as ``AutoModelForCausalLM``.
        path: The model's folder, or its name on the hub.
        key: What named it, for the message.
        kind: What it should be, for the message.
        may_lack: Parts whose weights are not wanted.
        **how: Further arguments of ``from_pretrained``.

    Raises:
        ConfigError: It cannot be read, or lacks weights: Transformers would make them up, in each
            process others.
    """
    try:
        model, report = auto_class.from_pretrained(
            path, output_loading_info=True, **how, **SAFE_WEIGHTS
        )
    except Exception as error:  # of many kinds: configuration, files, shapes
        raise ConfigError(
            f"{key}: {path} cannot be loaded as a {kind}: {one_line(error)}"
        ) from error
    lacking = [name for name in report["missing_keys"] if name.split(".")[0] not in may_lack]
    missing = sorted(lacking)
    if missing:
        others = f" and {len(missing) - 1} others" if missing[1:] else ""
        raise ConfigError(
            f"{key}: the safetensors of {path} lack {missing[0]!r}{others}, which "
            f"{type(model).__name__} has ({CONFIG_NAME}): it would be filled with random numbers"
        )
    return model


def check_shapes(
    auto_class: Any, path: str | Path, key: str, kind: str, tokenizer: Any, **options: Any
) -> Any:
    """The model without its weights, if it lacks none, and has a row for each of its tokens.

    Args:
        auto_class: This and the next as for :func:`load_model`.
        path: The model's folder.
        key: What named it.
        kind: What it should be.
        tokenizer: Its own.
        **options: Of :func:`load_model`.

    Raises:
        ConfigError: As there; or a token has no row: one ends a run, or reads another one's.
    """
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it takes a moment
    try:
        model = load_model(auto_class, path, key, kind, device_map="meta", **options)
    finally:
        if shown:
            logging.enable_progress_bar()
    rows = int(model.get_input_embeddings().weight.shape[0])
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    last = max(vocabulary, key=vocabulary.__getitem__)
    if vocabulary[last] >= rows:
        raise ConfigError(
            f"{key}: {path}: the tokenizer has the token {last!r} of number {vocabulary[last]}, "
            f"the model's embedding {rows} rows: add rows (`resize_token_embeddings`), or take the "
            "model's own tokenizer"
        )
    return model


def load_tokenizer(path: str | Path, key: str = "model") -> Any:
    """A model's tokenizer.

    Args:
        path: The model's folder, or its name on the hub.
        key: What named it, for the message.

    Raises:
        ConfigError: It cannot be read, or its class is code of its own.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(path, **NO_CODE)
    except Exception as error:  # of many kinds: files that are missing or of another format
        raise _refusal(
            Path(path), "tokenizer_config.json", key, error, "the tokenizer of "
        ) from error


def _refusal(folder: Path, name: str, key: str, error: Exception, what: str = "") -> ConfigError:
    """Why a file of a model cannot be read, in one line."""
    try:
        own_code = "auto_map" in json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        own_code = False
    if not own_code:
        return ConfigError(f"{key}: {what}{folder} cannot be read: {one_line(error)}")
    return ConfigError(
        f"{key}: {folder} brings code of its own (auto_map in {name}), which is never run: its "
        "class must be one that Transformers has"
    )
