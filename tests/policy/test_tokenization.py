"""Prompts as tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rllib_sea.policy.tokenization import PromptTokenizer
from tests.helpers.tiny_models import EOS
from text_duel.conversations import turn
from text_duel.errors import ConfigError


@pytest.fixture(scope="module")
def tokenizer(tiny_policy: Path) -> PromptTokenizer:
    return PromptTokenizer(tiny_policy)


def test_a_chat_model_gets_its_template(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.chat
    ids = tokenizer.encode("Hi")
    raw = tokenizer.tokenizer.decode(list(ids))
    assert raw == f"<|user|>Hi{EOS}<|assistant|>"
    # One token a byte, and the three special ones.
    assert len(ids) == 2 + 3


def test_plain_prompts_are_left_as_they_are(tiny_policy: Path) -> None:
    tokenizer = PromptTokenizer(tiny_policy, chat=False)
    assert tokenizer.tokenizer.decode(list(tokenizer.encode("TL;DR:"))) == "TL;DR:"


def test_a_conversation_goes_through_the_chat_template(tokenizer: PromptTokenizer) -> None:
    talk = (*turn("system", "S"), *turn("user", "A"), *turn("assistant", "B"), *turn("user", "C"))
    assert tokenizer.tokenizer.decode(list(tokenizer.encode(talk))) == (
        f"<|system|>S{EOS}<|user|>A{EOS}<|assistant|>B{EOS}<|user|>C{EOS}<|assistant|>"
    )
    assert tokenizer.encode(turn("user", "Hi")) == tokenizer.encode("Hi")


def test_a_conversation_that_the_model_cannot_take_is_one_line(
    tiny_policy: Path, tmp_path: Path
) -> None:
    talk = (*turn("system", "S"), *turn("user", "A"))
    plain = PromptTokenizer(tiny_policy, chat=False)
    with pytest.raises(ConfigError, match=r"^b: a conversation needs a model with a chat template"):
        plain.encode_all(["x", talk], ["a", "b"])
    folder = shutil.copytree(tiny_policy, tmp_path / "copy")
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no\\nsystem') }}{% endif %}"
    )
    with pytest.raises(ConfigError, match=r"^b: the model's chat template .*: no system$"):
        PromptTokenizer(folder).encode_all(["x", talk], ["a", "b"])


def test_a_chat_template_that_is_asked_for_must_be_there(tiny_policy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_policy, tmp_path / "copy")
    (folder / "chat_template.jinja").unlink()
    assert not PromptTokenizer(folder).chat
    with pytest.raises(ConfigError, match=r"^chat_template: true, and the model in .*copy has no"):
        PromptTokenizer(folder, chat=True)


def test_many_at_once_equal_one_by_one(tokenizer: PromptTokenizer) -> None:
    texts = ["a", "a longer one", "ünïcödé ☃"]
    assert tokenizer.encode_all(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_all([]) == []


def test_end_tokens_of_tokenizer_and_generation_config(tiny_policy: Path, tmp_path: Path) -> None:
    end = PromptTokenizer(tiny_policy).tokenizer.eos_token_id
    assert PromptTokenizer(tiny_policy).eos_token_ids == {end}
    copy = shutil.copytree(tiny_policy, tmp_path / "copy")
    for value, expected in (([end, 7], {end, 7}), (9, {end, 9}), (None, {end})):
        path = copy / "generation_config.json"
        path.write_text(json.dumps({"eos_token_id": value}))
        assert PromptTokenizer(copy).eos_token_ids == expected


def test_responses_are_decoded_without_special_tokens_and_margins(
    tokenizer: PromptTokenizer,
) -> None:
    ids = tokenizer.tokenizer(f" to the point \n{EOS}").input_ids
    assert tokenizer.decode(ids) == "to the point"
    assert tokenizer.decode([]) == ""
