"""A policy's folder and its weights: read and written as Transformers does, in this one place.

Weights travel between trainer and samplers by their names in the model's own state dictionary.
Names and shapes in a folder may be others: Transformers renames and fuses when it reads (a
GPT-NeoX's ``embed_out`` is a ``lm_head``, a mixture's experts are one tensor), and turns that back
when it writes. So no file of weights is read or written here but through it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME

from rllib_sea.policy.tokenization import PromptTokenizer
from text_duel.errors import ConfigError, one_line
from text_duel.model_files import (
    check_model_config,
    check_model_folder,
    check_shapes,
    load_model,
    load_tokenizer,
)

Weights = Mapping[str, torch.Tensor]


def load_policy(
    path: str | Path, dtype: torch.dtype, key: str = "policy_model"
) -> transformers.PreTrainedModel:
    """A causal language model from its folder, on the CPU and without dropout.

    Args:
        path: The model's folder.
        dtype: Of its weights.
        key: What named it, for the message.

    Raises:
        ConfigError: It cannot be read, or lacks weights: Transformers would make them up, in each
            process others.
    """
    return load_model(*_how(path, key), dtype=dtype).eval()


def check_policy_folder(
    folder: Path, chat: bool | None = None, key: str = "policy_model"
) -> transformers.PreTrainedModel:
    """Does without weights what a run does with them at its start and at its end.

    The folder is read as by :func:`load_policy`, names and shapes only, its tokenizer as by
    :class:`rllib_sea.policy.tokenization.PromptTokenizer`; and it is written as by
    :func:`save_policy`, all but the tensors: what cannot be written would else show at the first
    checkpoint, when labels have been paid.

    Args:
        folder: The model's.
        chat: Whether prompts are wrapped in the chat template; None: if there is one.
        key: What named it, for the message.

    Returns:
        The model, its tensors on ``meta``.

    Raises:
        ConfigError: One line that says what cannot be used, read or written.
    """
    check_model_folder(folder, key)
    tokenizer = check_policy_files(folder, chat, key).tokenizer
    model = check_shapes(*_how(folder, key), tokenizer)
    _check_writing(model, folder, key)
    return model


def check_policy_files(
    folder: Path, chat: bool | None = None, key: str = "policy_model"
) -> PromptTokenizer:
    """What of :func:`check_policy_folder` needs no file of weights; returns the tokenizer."""
    config = check_model_config(folder, key)
    if config.is_encoder_decoder:
        raise ConfigError(
            f"{key}: {folder} is an encoder with a decoder (model_type {config.model_type!r} in "
            f"{CONFIG_NAME}), expected a causal language model"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"{key}: Transformers has no causal language model of {folder} (model_type "
            f"{config.model_type!r} in {CONFIG_NAME})"
        )
    # Such models read both ways unless their configuration says otherwise.
    reads_ahead = type(config) in MODEL_FOR_MASKED_LM_MAPPING or config.model_type == "xlnet"
    if reads_ahead and not getattr(config, "is_decoder", False):
        raise ConfigError(
            f"{key}: {folder} is an encoder (model_type {config.model_type!r} in {CONFIG_NAME}, "
            "not is_decoder), expected a causal language model"
        )
    return PromptTokenizer(folder, chat)


def _check_writing(model: transformers.PreTrainedModel, folder: Path, key: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rllib-sea-check-") as trial:
        try:
            # What `save_pretrained` does, but for the tensors; it would also import DeepSpeed.
            model.config.save_pretrained(trial)
            _settings_to_write(model).save_pretrained(trial)
            _write_beside_weights(Path(trial), folder)
        except Exception as error:
            raise ConfigError(
                f"{key}: Transformers reads {folder} and cannot write it again, as a checkpoint "
                f"would: {one_line(error)}"
            ) from error


def save_policy(
    model: transformers.PreTrainedModel, weights: Weights, folder: Path, source: Path
) -> None:
    """Writes a folder that ``AutoModelForCausalLM.from_pretrained`` loads, tokenizer included.

    Settings of generation are not learned. They stay those of the source, byte for byte:
    Transformers reads some that it refuses to write, such as a ``top_p`` without ``do_sample``.

    Args:
        model: Whose class and configuration they are; its own weights are not looked at.
        weights: By name, as :func:`weights_of` gives them.
        folder: Where to.
        source: The folder that the model was loaded from.
    """
    settings = model.generation_config
    model.generation_config = _settings_to_write(model)
    try:
        model.save_pretrained(folder, state_dict=dict(weights))
    finally:
        model.generation_config = settings
    _write_beside_weights(folder, source)


def _settings_to_write(model: transformers.PreTrainedModel) -> transformers.GenerationConfig:
    """Settings that Transformers writes whatever it has read; the source's own replace them."""
    return transformers.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)


def _write_beside_weights(folder: Path, source: Path) -> None:
    if (source / GENERATION_CONFIG_NAME).is_file():
        shutil.copyfile(source / GENERATION_CONFIG_NAME, folder / GENERATION_CONFIG_NAME)
    load_tokenizer(source, "policy_model").save_pretrained(folder)


def is_recurrent(model: transformers.PreTrainedModel) -> bool:
    """Whether a layer keeps a state or convolves along a row: no mask of one's own reaches that."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    attends = all(kind.endswith("attention") and kind != "linear_attention" for kind in kinds)
    return model._is_stateful or not attends


def has_cache(model: transformers.PreTrainedModel) -> bool:
    """Whether it keeps keys and values of what it has read, which can be repeated."""
    return not is_recurrent(model) and "past_key_values" in signature(model.forward).parameters


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's state, not copied, without the second names of tied weights."""
    seen: set[int] = set()
    state = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            state[name] = tensor
    return state


def replace_weights(model: transformers.PreTrainedModel, weights: Weights) -> None:
    """Copies weights into a model.

    Args:
        model: The model.
        weights: By name; of tied weights one name is enough.

    Raises:
        ValueError: They are another model's: weights are missing, or there are others.
    """
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    # Names that are no parameter's are the second ones of tied weights, or buffers'.
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(parameters.intersection(missing))
    if missing or unexpected:
        raise ValueError(
            f"weights do not fit {type(model).__name__}: missing {missing}, unexpected {unexpected}"
        )


def names_on_disk(model: transformers.PreTrainedModel, weights: Weights) -> dict[str, torch.Tensor]:
    """Weights as a folder has them: names, and experts one by one.

    Args:
        model: A model that was loaded from its folder; its tensors may be on ``meta``.
        weights: By name, as :func:`weights_of` gives them.
    """
    return revert_weight_conversion(model, dict(weights))


def _how(path: str | Path, key: str) -> tuple[Any, str | Path, str, str]:
    return transformers.AutoModelForCausalLM, path, key, "causal language model"
