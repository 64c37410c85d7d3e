"""Preferences between texts that no run sampled, and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.tokenization import PromptTokenizer
from text_duel.conversations import Content
from text_duel.verdicts import Label

CHOSEN = Label(1.0)


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with two responses, one of them preferred.

    Attributes:
        prompt: The prompt, a text or a conversation, without a chat template.
        chosen: The preferred response, surrounding white space stripped.
        rejected: The other response, likewise; never the same text.
        place: Where it was found, for messages.
        label: How much the chosen response is preferred; None: nobody has said yet.
    """

    prompt: Content
    chosen: str
    rejected: str
    place: str = field(default="", compare=False)
    label: Label | None = CHOSEN


@dataclass(frozen=True, slots=True)
class TokenizedPreference:
    """A preference with its tokens.

    Attributes:
        prompt: The prompt, a text or a conversation, without a chat template.
        prompt_token_ids: The prompt as the policy sees it.
        chosen: The preferred response.
        rejected: The other response.
        place: Where it was found, for messages.
        label: How much the chosen response is preferred; None: nobody has said yet.
    """

    prompt: Content
    prompt_token_ids: tuple[int, ...]
    chosen: Candidate
    rejected: Candidate
    place: str
    label: Label | None

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt and the longer response."""
        longer = max(len(self.chosen.token_ids), len(self.rejected.token_ids))
        return len(self.prompt_token_ids) + longer


def tokenize_preferences(
    preferences: Sequence[Preference], tokenizer: PromptTokenizer, key: str = "preferences"
) -> list[TokenizedPreference]:
    """Tokenizes texts that somebody else wrote; nothing is cut.

    A response is taken for a whole one: it gets the token by which the policy ends a response. Its
    log-probabilities are not known: there are none.

    Args:
        preferences: N of them.
        tokenizer: The policy's.
        key: What named them, for messages.

    Returns:
        N, in the same order.

    Raises:
        ConfigError: A prompt is a conversation that the policy cannot take.
    """
    prompts = [preference.prompt for preference in preferences]
    names = [f"{key}: {preference.place}" for preference in preferences]
    prompt_token_ids = tokenizer.encode_all(prompts, names)
    chosen = _responses(prompts, [p.chosen for p in preferences], tokenizer)
    rejected = _responses(prompts, [p.rejected for p in preferences], tokenizer)
    return [
        TokenizedPreference(p.prompt, prompt_token_ids[i], chosen[i], rejected[i], p.place, p.label)
        for i, p in enumerate(preferences)
    ]


def _responses(
    prompts: Sequence[Content], texts: Sequence[str], tokenizer: PromptTokenizer
) -> list[Candidate]:
    return [
        Candidate(text, token_ids, (), "stop")
        for text, token_ids in zip(texts, tokenizer.encode_responses(prompts, texts), strict=True)
    ]
