"""A run's prompts: what fits, as tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_sea.policy import prompt_sets
from rllib_sea.policy.prompt_sets import PromptSet, PromptSets
from rllib_sea.policy.prompt_split import PromptSplit, read_prompts
from rllib_sea.policy.tokenization import PromptTokenizer
from tests.helpers.tiny_models import make_tiny_policy
from text_duel import ConfigError, Prompt
from text_duel.conversations import as_text, turn


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(f"p{i}", text, {}, None) for i, text in enumerate(texts)]


def test_prompts_without_room_for_a_response_are_left_out(tmp_path: Path) -> None:
    """Room for 12 tokens, of which the template has 3 and each byte 1."""
    tokenizer = PromptTokenizer(make_tiny_policy(tmp_path / "short", context=20))
    kept = PromptSet(prompts("x" * 9, "x" * 10, ""), tokenizer, 12)
    assert [prompt.id for prompt in kept.prompts] == ["p0", "p2"]
    assert (len(kept), kept.places, kept.num_too_long, kept.longest) == (2, [0, 2], 1, 12)


def test_an_empty_prompt_does_not_fit(tiny_policy: Path) -> None:
    """Nothing predicts the first token of its response."""
    kept = PromptSet(prompts("", "x"), PromptTokenizer(tiny_policy, chat=False), 12)
    assert kept.places == [1]


def test_tokens_are_those_of_the_tokenizer(
    tiny_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_sets, "TOKENIZED_AT_ONCE", 2)
    tokenizer = PromptTokenizer(tiny_policy)
    texts = ["a", "a longer one", "ünïcödé ☃"]
    kept = PromptSet(prompts(*texts), tokenizer, 1000)
    found = kept.tokenized([2, 0, 1])
    assert [prompt.id for prompt in found] == ["p2", "p0", "p1"]
    assert [prompt.token_ids for prompt in found] == [tokenizer.encode(texts[i]) for i in (2, 0, 1)]


def test_an_engine_has_room_for_the_longest_prompt_of_both_sets(tiny_policy: Path) -> None:
    sets = PromptSets(
        tiny_policy,
        "tiny",
        chat_template=None,
        max_new_tokens=30,
        prompts=read_prompts(
            {"prompts": "tldr_mini", "limit": 3}, split=None, share=None, num_held_out=5
        ),
    )
    texts = [prompt.text for prompt in [*sets.training.prompts, *sets.held_out.prompts]]
    longest = max(map(len, sets.tokenizer.encode_all(texts)))
    assert (len(sets.training), len(sets.held_out)) == (3, 5)
    assert sets.max_model_len == longest + 30


def test_a_conversation_needs_a_model_that_chats(tiny_policy: Path) -> None:
    """Said of the run's own prompts before anything starts."""
    messages = (*turn("system", "S"), *turn("user", "U"))
    talk = Prompt("p", as_text(messages), {}, None, messages)

    def read(chat_template: bool | None) -> PromptSets:
        return PromptSets(
            tiny_policy,
            "tiny",
            chat_template=chat_template,
            max_new_tokens=30,
            prompts=PromptSplit([talk], prompts("held out"), ()),
        )

    sets = read(None)
    (prompt,) = sets.training.tokenized([0])
    assert prompt.text == "System: S\n\nUser: U"
    assert prompt.token_ids == sets.tokenizer.encode(messages)
    with pytest.raises(ConfigError, match=r"^prompts: the prompt 'p': a conversation needs"):
        read(False)


def test_a_set_of_which_nothing_fits_is_one_line(tmp_path: Path) -> None:
    model = make_tiny_policy(tmp_path / "short", context=64)
    with pytest.raises(ConfigError) as wrong:
        PromptSets(
            model,
            "short",
            chat_template=None,
            max_new_tokens=60,
            prompts=read_prompts(
                {"prompts": "tldr_mini"}, split=None, share=None, num_held_out=None
            ),
        )
    assert str(wrong.value) == (
        "env_config: every training prompt is longer than 4 tokens, the context of short less "
        "max_new_tokens"
    )
