"""Prompts as tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rllib_sea.policy import tokenization
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
        "{{ messages[0].content }}"
    )
    with pytest.raises(
        ConfigError, match=r"^b: the model's chat template .* \(roles system, user\): no system$"
    ):
        PromptTokenizer(folder).encode_all(["x", talk], ["a", "b"])


def test_conversations_that_a_template_refuses_are_told_once_with_their_number(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "_AT_ONCE", 2)
    folder = shutil.copytree(tiny_policy, tmp_path / "copy")
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    talk = (*turn("system", "S"), *turn("user", "A"))
    with pytest.raises(ConfigError) as caught:
        PromptTokenizer(folder).encode_all(["x", "y", "z", talk, "x", talk, talk], list("abcdefg"))
    assert str(caught.value).startswith("d: the model's chat template does not take this ")
    assert str(caught.value).endswith(": no system (2 more prompts are refused, too)")


def test_a_chat_template_that_is_asked_for_must_be_there(tiny_policy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_policy, tmp_path / "copy")
    (folder / "chat_template.jinja").unlink()
    assert not PromptTokenizer(folder).chat
    with pytest.raises(
        ConfigError, match=r"^chat_template: the tokenizer of .*copy has no chat template"
    ):
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


@pytest.fixture
def model(tiny_policy: Path, tmp_path: Path) -> Path:
    """A model's folder, to be changed."""
    return shutil.copytree(tiny_policy, tmp_path / "model")


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


PARTS = """{% for message in messages %}<|{{ message['role'] }}|>
{%- for part in message['content'] %}
{%- if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


def test_a_template_that_wants_content_in_parts_gets_it(
    model: Path, tokenizer: PromptTokenizer
) -> None:
    """As those of models that also read images do; to a text they show nothing."""
    (model / "chat_template.jinja").write_text(PARTS)
    assert PromptTokenizer(model).encode("Hi") == tokenizer.encode("Hi")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{{ raise_exception('only two turns') }}",
            "cannot be used: only two turns: set chat_tem",
        ),
        ("{{ messages[0]['content'] + 3 }}", "cannot be used: .*: set chat_template false"),
        ("<|user|>", "it leaves out what is asked"),
        ("{% for %}", "cannot be used: "),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(
    model: Path, template: str, expected: str
) -> None:
    (model / "chat_template.jinja").write_text(template)
    with pytest.raises(
        ConfigError, match=rf"^chat_template: the tokenizer of .*{expected}"
    ) as wrong:
        PromptTokenizer(model)
    assert "\n" not in str(wrong.value)
    assert PromptTokenizer(model, chat=False).encode("Hi")


def test_a_template_that_is_asked_for_must_be_there(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert not PromptTokenizer(model).chat
    with pytest.raises(ConfigError, match=r"^chat_template: .* has no chat template: set"):
        PromptTokenizer(model, chat=True)


def test_a_model_that_ends_no_response_is_refused(model: Path) -> None:
    (model / "generation_config.json").unlink()
    change(model / "config.json", eos_token_id=None)
    change(model / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ConfigError, match=r"nothing ends a response of .* \(eos_token_id\)$"):
        PromptTokenizer(model)


def test_a_tokenizer_that_lacks_the_end_token_is_another_models(model: Path) -> None:
    change(model / "config.json", eos_token_id=[50256, 50257])
    expected = r"with the token 50256 .*, its tokenizer has 261 tokens: it is another model's$"
    with pytest.raises(ConfigError, match=expected):
        PromptTokenizer(model)


def test_a_tokenizer_that_is_not_there_is_refused(model: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (model / file).unlink()
    with pytest.raises(
        ConfigError, match=r"^policy_model: the tokenizer of .* cannot be read"
    ) as e:
        PromptTokenizer(model)
    assert "\n" not in str(e.value)
