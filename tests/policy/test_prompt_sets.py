"""A run's prompts: what fits, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_sea.policy import tokenization
from rllib_sea.policy.prompt_sets import PromptSet, PromptSets
from rllib_sea.policy.prompt_split import PromptSplit, read_prompts
from rllib_sea.policy.tokenization import PromptTokenizer
from tests.helpers.tiny_models import make_tiny_policy
from text_duel import ConfigError, Prompt
from text_duel.conversations import as_text, turn
from text_duel.oracles import LengthOracle

ANY_LENGTH = {"name": "length", "config": None}


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
    monkeypatch.setattr(tokenization, "_AT_ONCE", 2)
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
        oracle=ANY_LENGTH,
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
            oracle=ANY_LENGTH,
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
            oracle=ANY_LENGTH,
        )
    assert str(wrong.value) == (
        "env_config: no training prompt fits: 324 training prompts do not leave 60 tokens "
        "(max_new_tokens) of room for a response in the context of short (64 tokens)"
    )


class SmallOracle(LengthOracle):
    """One that has room for a response to prompts with an even number of characters."""

    @classmethod
    def response_room(cls, prompts: Sequence[Prompt], **config: Any) -> np.ndarray:
        return np.array([12 - len(prompt.text) % 2 for prompt in prompts])


def test_prompts_that_the_oracle_cannot_read_are_left_out_and_counted(tiny_policy: Path) -> None:
    split = read_prompts(
        {"prompts": "tldr_mini", "limit": 20}, split=None, share=None, num_held_out=None
    )

    def sets(max_new_tokens: int, oracle: str = f"{__name__}:SmallOracle") -> PromptSets:
        return PromptSets(
            tiny_policy,
            "tiny",
            chat_template=None,
            max_new_tokens=max_new_tokens,
            prompts=split,
            oracle={"name": oracle, "config": None},
        )

    every = sets(12, "length")
    # The prompts are long beside 1024 positions: some do not fit the policy.
    fits = [len(prompt.text) % 2 == 0 for prompt in every.training.prompts]
    some = sets(12)
    assert some.training.num_unreadable == fits.count(False) > 0
    assert some.training.num_too_long == every.training.num_too_long + fits.count(False)
    assert [p.id for p in some.training.prompts] == [
        p.id for p, fit in zip(every.training.prompts, fits, strict=True) if fit
    ]
    assert (
        f"{fits.count(False)} training prompts do not leave 12 tokens (max_new_tokens) of room for "
        f"a response in the context of the oracle {__name__}:SmallOracle: they are left out"
    ) in some.left_out
    with pytest.raises(
        ConfigError, match=r"no training prompt fits: .* of the oracle .*SmallOracle"
    ):
        sets(13)
