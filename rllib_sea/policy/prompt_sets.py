"""A run's prompts: those that are trained on, those that are held out, and what fits the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_sea.policy.audit import probe_tokens
from rllib_sea.policy.tokenization import PromptTokenizer
from text_duel.errors import ConfigError
from text_duel.prompts import Prompt, load_prompts, prompt_options


class PromptSets:
    """Reads the prompts, and leaves out those that do not fit the model.

    Args:
        model_path: The policy's folder.
        model_name: Its name, for messages.
        chat_template: Whether prompts are wrapped in the chat template; None: if there is one.
        max_new_tokens: Longest response in tokens.
        env_config: The environment's configuration.
        evaluation_env_config: The same, on held-out prompts.

    Attributes:
        training: All training prompts.
        held_out: All held-out prompts.
        trainable: Indices of the training prompts that fit.
        evaluated: Indices of the held-out prompts that fit.
        num_too_long: How many training prompts do not.
        chat: Whether prompts are wrapped in the chat template.
        probes: Tokens of some prompts, by which engines are audited.

    Raises:
        ConfigError: No prompt of a set fits.
    """

    def __init__(
        self,
        model_path: Path,
        model_name: str,
        *,
        chat_template: bool | None,
        max_new_tokens: int,
        env_config: Mapping[str, Any],
        evaluation_env_config: Mapping[str, Any],
    ) -> None:
        tokenizer = PromptTokenizer(model_path, chat=chat_template)
        self.chat = tokenizer.chat
        self.training: Sequence[Prompt] = load_prompts(**prompt_options(env_config))
        self.held_out: Sequence[Prompt] = load_prompts(**prompt_options(evaluation_env_config))

        def fitting(prompts: Sequence[Prompt], name: str) -> list[int]:
            texts = [prompt.text for prompt in prompts]
            kept = list(tokenizer.fitting_lengths(texts, max_new_tokens))
            if not kept:
                raise ConfigError(
                    f"env_config: every {name} prompt is longer than "
                    f"{tokenizer.context_length - max_new_tokens} tokens, the context "
                    f"of {model_name} less max_new_tokens"
                )
            return kept

        self.trainable = fitting(self.training, "training")
        self.evaluated = fitting(self.held_out, "held-out")
        self.num_too_long = len(self.training) - len(self.trainable)
        shown = (tokenizer.encode(self.training[i].text) for i in self.trainable)
        self.probes = probe_tokens(shown, tokenizer.context_length)
        self.by_id = {prompt.id: prompt for prompt in self.training}
