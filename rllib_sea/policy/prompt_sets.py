"""A run's prompts, read and tokenized once: those that are trained on, those that are held out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_sea.duels.rounds import TokenizedPrompt
from rllib_sea.policy.audit import AUDIT_POSITIONS, probe_tokens
from rllib_sea.policy.prompt_identity import Fingerprint, PromptIndex
from rllib_sea.policy.prompt_split import PromptSplit
from rllib_sea.policy.tokenization import PromptTokenizer
from text_duel.errors import ConfigError
from text_duel.oracles import oracle_class
from text_duel.prompts import Prompt


class PromptSet:
    """The prompts of a split that leave policy and oracle room for a response.

    Args:
        prompts: All prompts of the split.
        tokenizer: The policy's.
        room: Most tokens of a prompt.
        readable: For each prompt whether the oracle can read it with the longest response; None if
            it can read any.

    Raises:
        ConfigError: See :meth:`PromptTokenizer.encode_each`.

    Attributes:
        prompts: Those that fit.
        places: Their places among all prompts of the split, which key what is drawn for them.
        num_too_long: How many prompts do not fit, in either view.
        num_unreadable: How many of them fit the policy alone.
        longest: Tokens of the longest one that fits; 0 if none does.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        tokenizer: PromptTokenizer,
        room: int,
        readable: Sequence[bool] | None = None,
    ) -> None:
        self.prompts: list[Prompt] = []
        self.places: list[int] = []
        # 4 bytes per token: a large set has tens of millions.
        self._token_ids: list[np.ndarray] = []
        self.num_unreadable = 0
        self._tokenizer = tokenizer
        self._most_response_tokens = tokenizer.context_length - room
        encoded = tokenizer.encode_each(
            [prompt.content for prompt in prompts],
            [f"prompts: the prompt {prompt.id!r}" for prompt in prompts],
        )
        for place, (prompt, token_ids) in enumerate(zip(prompts, encoded, strict=True)):
            if not 0 < len(token_ids) <= room:
                continue
            if readable is not None and not readable[place]:
                self.num_unreadable += 1
            else:
                self.prompts.append(prompt)
                self.places.append(place)
                self._token_ids.append(np.array(token_ids, dtype=np.int32))
        self.num_too_long = len(prompts) - len(self.prompts)
        self.longest = max(map(len, self._token_ids), default=0)

    def __len__(self) -> int:
        return len(self.prompts)

    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(token_ids) for token_ids in self._token_ids]

    def tokenized(self, indices: Iterable[int]) -> list[TokenizedPrompt]:
        """Some of :attr:`prompts`, by their indices."""
        return [
            TokenizedPrompt(
                self.prompts[i].id, self.prompts[i].text, tuple(self._token_ids[i].tolist())
            )
            for i in indices
        ]

    def references(self, indices: Iterable[int]) -> dict[int, tuple[int, ...]]:
        """The beginnings of the reference responses of some of :attr:`prompts`, as tokens.

        Args:
            indices: Of the prompts.

        Returns:
            By index: as many tokens as a response may have, without the one that ends it; empty
            of a prompt without a reference.
        """
        found: dict[int, tuple[int, ...]] = dict.fromkeys(indices, ())
        written = {i: text for i in found if (text := self.prompts[i].reference)}
        encoded = self._tokenizer.encode_responses(
            [self.prompts[i].content for i in written], list(written.values())
        )
        return found | {
            i: token_ids[:-1][: self._most_response_tokens]
            for i, token_ids in zip(written, encoded, strict=True)
        }


class PromptSets:
    """A run's prompts as tokens, without those that do not fit the model.

    Args:
        model_path: The policy's folder.
        model_name: Its name, for messages.
        chat_template: Whether prompts are wrapped in the chat template; None: if there is one.
        max_new_tokens: Longest response in tokens.
        prompts: The run's prompts.
        oracle: Name and configuration of the oracle, which must have room for them, too.

    Attributes:
        fingerprint: Of all prompts, also those that do not fit.
        index: Finds training prompts, also those that do not fit.
        training: The training prompts that fit.
        held_out: The held-out prompts that fit.
        tokenizer: The policy's.
        max_model_len: Positions that an engine needs for all of them, and for its audit.
        left_out: Lines that say how many prompts do not fit which model.
        probes: Tokens of some prompts, by which engines are audited.

    Raises:
        ConfigError: No prompt of a set fits, or one is a conversation that the model cannot take.
    """

    def __init__(
        self,
        model_path: Path,
        model_name: str,
        *,
        chat_template: bool | None,
        max_new_tokens: int,
        prompts: PromptSplit,
        oracle: Mapping[str, Any],
    ) -> None:
        self.tokenizer = PromptTokenizer(model_path, chat=chat_template)
        context = self.tokenizer.context_length
        room = context - max_new_tokens

        self.left_out: list[str] = []

        def fitting(prompts: Sequence[Prompt], name: str) -> PromptSet:
            left = oracle_class(oracle["name"]).response_room(prompts, **(oracle["config"] or {}))
            readable = None if left is None else (left >= max_new_tokens).tolist()
            kept = PromptSet(prompts, self.tokenizer, room, readable)
            reasons = [
                f"{number} {name} prompts do not leave {max_new_tokens} tokens (max_new_tokens) of "
                f"room for a response in the context of {whose}"
                for number, whose in (
                    (kept.num_too_long - kept.num_unreadable, f"{model_name} ({context} tokens)"),
                    (kept.num_unreadable, f"the oracle {oracle['name']}"),
                )
                if number
            ]
            if not len(kept):
                raise ConfigError(f"env_config: no {name} prompt fits: {'; '.join(reasons)}")
            self.left_out += [f"{reason}: they are left out" for reason in reasons]
            return kept

        self.fingerprint = Fingerprint.of(prompts.training, prompts.held_out)
        self.index = PromptIndex(prompts.training)
        self.training = fitting(prompts.training, "training")
        self.held_out = fitting(prompts.held_out, "held-out")
        longest = max(self.training.longest, self.held_out.longest) + max_new_tokens
        self.max_model_len = min(max(longest, AUDIT_POSITIONS), context)
        shown = (self.training.tokenized([i])[0].token_ids for i in range(len(self.training)))
        self.probes = probe_tokens(shown, context)
