"""Any Hugging Face reward model as an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import huggingface_hub.constants
import jinja2
import numpy as np
import torch
import transformers

from text_duel.chat_templates import rendered, wants_parts
from text_duel.conversations import as_messages, turn
from text_duel.errors import ConfigError, UnanswerableError, nearest, one_line
from text_duel.model_files import (
    NO_CODE,
    check_model_folder,
    check_shapes,
    context_length,
    load_model,
    load_tokenizer,
)
from text_duel.oracles.base import ScoringOracle
from text_duel.paths import user_path
from text_duel.prompts import Prompt

KEY = "oracle_config.model"
ROLES = ("user", "assistant")
DTYPES = ("float32", "bfloat16", "float16")


class RewardModelOracle(ScoringOracle):
    """Scores with a sequence-classification model of one label.

    Prompt and response are put into the reward model's own chat template, a text as a user's turn,
    the response as the assistant's, and tokenized by its own tokenizer. A run leaves out prompts
    without room for its longest response (:meth:`response_room`). A response can still take more of
    this model's tokens than of the policy's: then its end is left out, so that the rest fits, and
    it is counted in ``num_cut``. A prompt that is too long by itself raises.

    Args:
        model: A local folder or a name on the hub.
        batch_size: The most sequences in one forward pass. A model whose configuration names no
            pad token is read one sequence at a time, as Transformers demands.
        dtype: One of :data:`DTYPES`.
        device: Such as ``"cuda:1"``; None takes a GPU if there is one.

    Raises:
        ConfigError: A bad value, a model that cannot be found, or one that is no reward model.
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 16,
        dtype: str = "bfloat16",
        device: str | None = None,
    ) -> None:
        _check_options(model=model, batch_size=batch_size, dtype=dtype, device=device)
        config, self._tokenizer, self._in_parts = _load_small_parts(model)
        # The model finds a sequence's last token as the last that is not this one, so it must be
        # the one that the model was published with, whatever the tokenizer pads with.
        self._pad_id: int | None = config.get_text_config().pad_token_id
        self._batch_size = 1 if self._pad_id is None else batch_size
        self._context = context_length(config, self._tokenizer)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_model(*_how(model), dtype=getattr(torch, dtype)).to(self._device).eval()
        self.name = f"reward_model({model}, {dtype})"

    @classmethod
    def check_config(cls, **config: Any) -> None:
        _check_options(**config)
        _, tokenizer, _ = _load_small_parts(config["model"])
        if user_path(config["model"], "oracle_config: model").is_dir():
            check_shapes(*_how(config["model"]), tokenizer)

    @classmethod
    def response_room(cls, prompts: Sequence[Prompt], **config: Any) -> np.ndarray:
        """See :meth:`Oracle.response_room`."""
        model_config, tokenizer, in_parts = _load_small_parts(config["model"])
        context = context_length(model_config, tokenizer)
        used = [len(_token_ids(tokenizer, in_parts, prompt, "")) for prompt in prompts]
        return np.array([context - number for number in used], dtype=np.int64)

    @classmethod
    def check_prompts(cls, prompts: Sequence[Prompt], **config: Any) -> None:
        # Every chat template takes a user's turn; some take no system message, or no two turns
        # of one role.
        conversations = [prompt for prompt in prompts if prompt.messages is not None]
        if not conversations:
            return
        _, tokenizer, in_parts = _load_small_parts(config["model"])
        for prompt in conversations:
            try:
                _chat_text(tokenizer, in_parts, prompt, "a")
            except jinja2.TemplateError as error:
                raise ConfigError(
                    f"oracle_config.model: the chat template of {config['model']!r} does not take "
                    f"the conversation {prompt.id!r}: {one_line(error)}"
                ) from error

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        token_ids = [
            self._tokenize(prompt, response)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        scores = np.empty(len(token_ids), dtype=np.float64)
        order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            scores[rows] = self._score_batch([token_ids[i] for i in rows])
        return scores

    def _tokenize(self, prompt: Prompt, response: str) -> list[int]:
        token_ids = _token_ids(self._tokenizer, self._in_parts, prompt, response)
        if len(token_ids) <= self._context:
            return token_ids
        self.num_cut += 1
        kept = self._tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"]
        while len(token_ids) > self._context:
            if not kept:
                raise UnanswerableError(
                    f"prompt {prompt.id!r} takes {len(token_ids)} tokens without a response, "
                    f"{self.name} has room for {self._context}"
                )
            # What is left may be tokenized otherwise: at its end, or beside the template.
            kept = kept[: max(0, len(kept) - (len(token_ids) - self._context))]
            token_ids = _token_ids(
                self._tokenizer, self._in_parts, prompt, self._tokenizer.decode(kept)
            )
        return token_ids

    def _score_batch(self, token_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """(B,) float64: the scores of B token sequences, right padded."""
        width = max(len(ids) for ids in token_ids)
        padded = torch.full((len(token_ids), width), self._pad_id or 0)
        mask = torch.zeros_like(padded)
        for row, ids in enumerate(token_ids):
            padded[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        logits = self._model(
            input_ids=padded.to(self._device), attention_mask=mask.to(self._device)
        ).logits
        return logits[:, 0].double().cpu().numpy()


def _chat_text(tokenizer: Any, in_parts: bool, prompt: Prompt, response: str) -> str:
    """Prompt and response in the reward model's chat template."""
    messages = (*as_messages(prompt.content), *turn("assistant", response))
    return rendered(tokenizer, messages, in_parts=in_parts)


def _token_ids(tokenizer: Any, in_parts: bool, prompt: Prompt, response: str) -> list[int]:
    """A prompt and its response as the reward model reads them."""
    text = _chat_text(tokenizer, in_parts, prompt, response)
    # The chat template writes the special tokens itself.
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _check_options(
    *, model: str, batch_size: int = 1, dtype: str = DTYPES[0], device: str | None = None
) -> None:
    """Raises ConfigError for a bad value; what is left out is not checked."""
    if not isinstance(model, str) or not model:
        raise ConfigError(f"oracle_config.model: {model!r} is no name or folder of a model")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(
            f"oracle_config.batch_size: {batch_size!r} is not a whole number of at least 1"
        )
    if dtype not in DTYPES:
        raise ConfigError(
            f"oracle_config.dtype: {dtype!r} is none of {', '.join(DTYPES)}"
            f"{nearest(str(dtype), DTYPES)}"
        )
    if device is not None:
        try:
            torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"oracle_config.device: {device!r} is no device of PyTorch, such as 'cpu' or 'cuda'"
            ) from error


def _load_small_parts(model: str) -> tuple[Any, Any, bool]:
    """Configuration, tokenizer and whether it wants parts: whether this can be a reward model.

    Raises:
        ConfigError: They cannot be found, or it is none.
    """
    folder = user_path(model, "oracle_config: model")
    is_hub_name = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    if not folder.is_dir() and not is_hub_name:
        raise ConfigError(
            f"{KEY}: {model!r} was not found; looked for the folder {folder.absolute()}; a name on "
            "the hub is 'owner/name'"
        )
    if folder.is_dir():
        check_model_folder(folder, KEY)
    try:
        config = transformers.AutoConfig.from_pretrained(_location(model), **NO_CODE)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{KEY}: {model!r} cannot be loaded; looked for the folder {folder.absolute()}, in the "
            f"cache {huggingface_hub.constants.HF_HUB_CACHE} and at "
            f"{huggingface_hub.constants.ENDPOINT}: {one_line(error)}"
        ) from error
    tokenizer = load_tokenizer(_location(model), KEY)
    if config.num_labels != 1:
        raise ConfigError(
            f"{KEY}: {model!r} has {config.num_labels} labels, expected a reward model with 1"
        )
    what = f"{KEY}: the tokenizer of {model!r}"
    return config, tokenizer, wants_parts(tokenizer, ROLES, what, "take another reward model")


def _how(model: str) -> tuple[Any, str, str, str]:
    """How it is loaded. A model without a head of its own is no reward model: it lacks weights."""
    return transformers.AutoModelForSequenceClassification, _location(model), KEY, "reward model"


def _location(model: str) -> str:
    folder = user_path(model, "oracle_config: model")
    return str(folder) if folder.is_dir() else model
