"""RewardModelOracle on a tiny random Llama with a byte tokenizer, made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from text_duel import (
    ConfigError,
    OracleError,
    Prompt,
    RewardModelOracle,
    check_oracle,
    make_oracle,
    validate_env_config,
)
from text_duel.conversations import as_text, turn

SPECIAL = ["<pad>", "<end>", "<user>", "<assistant>", "<begin>"]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
MAX_TOKENS = 128
PROMPTS = [
    Prompt(str(i), text, {"post": text}, None)
    for i, text in enumerate(["Why. So?", "Tell me a longer story. Please.", "Ü", "no", "yes"])
]
RESPONSES = ["", "Because.", "Once upon a time there was a dog.", "ß", "a b c d e f g h i j"]


def tiny_tokenizer(chat_template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    # As Llama's: a token is added to plain text, which a chat template does not want twice.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", SPECIAL.index("<begin>"))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = chat_template
    return fast


def save_reward_model(
    folder: Path,
    *,
    num_labels: int = 1,
    pad_token_id: int | None = 0,
    chat_template: str | None = TEMPLATE,
    model_class: type = LlamaForSequenceClassification,
) -> str:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(chat_template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        num_labels=num_labels,
        pad_token_id=pad_token_id,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = model_class(config)
    for parameter in model.parameters():  # the usual 0.02 makes all scores nearly equal
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_reward_model(tmp_path_factory.mktemp("reward"))


def make(folder: str, **options) -> RewardModelOracle:
    return RewardModelOracle(folder, **{"dtype": "float32", "device": "cpu", **options})


def slow_scores(folder: str) -> np.ndarray:
    """The head on the last token's state of each text alone, without padding."""
    tokenizer = tiny_tokenizer()
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    scores = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        text = f"<user>{prompt.text}<end><assistant>{response}<end>"
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            scores.append(float(model.score(model.model(ids).last_hidden_state[0, -1])))
    return np.array(scores)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batches_equal_one_at_a_time(folder: str, batch_size: int) -> None:
    expected = slow_scores(folder)
    assert np.ptp(expected) > 0.5
    scores = make(folder, batch_size=batch_size).score(PROMPTS, RESPONSES)
    assert scores.shape == (5,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_model_without_pad_token_is_read_one_at_a_time(tmp_path: Path, batch_size: int) -> None:
    folder = save_reward_model(tmp_path, pad_token_id=None)
    np.testing.assert_allclose(
        make(folder, batch_size=batch_size).score(PROMPTS, RESPONSES),
        slow_scores(folder),
        atol=1e-5,
    )


def test_bfloat16_is_the_default_and_close(folder: str) -> None:
    oracle = make_oracle("reward_model", {"model": folder, "device": "cpu"})
    assert oracle.name == f"reward_model({folder}, bfloat16)"
    np.testing.assert_allclose(oracle.score(PROMPTS, RESPONSES), slow_scores(folder), atol=0.1)
    check_oracle(oracle, PROMPTS, tolerance=0.02)


def test_it_passes_the_checker(folder: str) -> None:
    check_oracle(make(folder), PROMPTS)
    assert make(folder).score([], []).shape == (0,)


def test_a_response_that_is_too_long_is_cut_and_counted(folder: str) -> None:
    oracle = make(folder)
    room = MAX_TOKENS - len("no") - 4  # <user> <end> <assistant> <end>
    assert RewardModelOracle.response_room([PROMPTS[3]], model=folder).tolist() == [room]
    whole = oracle.score([PROMPTS[3]], ["x" * room])
    assert oracle.num_cut == 0
    scores = oracle.score([PROMPTS[3]] * 2, ["x" * (room + 1), "x" * room + "a much longer one"])
    np.testing.assert_allclose(scores, [whole[0], whole[0]], atol=1e-6)
    assert oracle.num_cut == 2


def test_a_prompt_that_is_too_long_by_itself_raises(folder: str) -> None:
    long = Prompt("long", "x" * MAX_TOKENS, {}, None)
    assert RewardModelOracle.response_room([long], model=folder).tolist() == [-4]
    oracle = make(folder)
    with pytest.raises(OracleError) as caught:
        oracle.score([long], ["y"])
    assert str(caught.value) == (
        f"prompt 'long' takes 132 tokens without a response, {oracle.name} has room for 128"
    )


def assert_refused(model: str, message: str, *, by_check: bool = True, **options) -> None:
    """Refused by the constructor and, before any model is loaded, by the check."""
    with pytest.raises(ConfigError, match=message) as caught:
        make(model, **options)
    assert "\n" not in str(caught.value)
    if by_check:
        with pytest.raises(ConfigError, match=message):
            RewardModelOracle.check_config(model=model, **options)


TALK = (*turn("system", "S"), *turn("user", "U"))


def test_a_conversation_is_scored_with_all_its_turns(folder: str) -> None:
    talk = Prompt("0", as_text(TALK), {}, None, TALK)
    oracle = make(folder)
    text = oracle._tokenizer.decode(oracle._tokenize(talk, "R"))
    assert text == "<system>S<end><user>U<end><assistant>R<end>"


def test_a_conversation_that_the_template_does_not_take_is_said_at_the_start(
    tmp_path: Path, write_rows
) -> None:
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for message in messages %}{{ message.content }}{% endfor %}"
    )
    config = {
        "prompts": str(write_rows("a.jsonl", [{"post": "a"}, {"post": TALK}])),
        "columns": {"reference": None},
        "oracle": "reward_model",
        "oracle_config": {"model": save_reward_model(tmp_path / "rm", chat_template=strict)},
    }
    with pytest.raises(
        ConfigError, match=r"^oracle_config\.model: .* conversation 'train-1': no system$"
    ):
        validate_env_config(config)
    assert len(validate_env_config(config | {"limit": 1})) == 1


def test_models_that_are_no_reward_models_are_refused(tmp_path: Path) -> None:
    two = save_reward_model(tmp_path / "two", num_labels=2)
    assert_refused(two, r"^oracle_config\.model: .*two' has 2 labels, expected .* with 1$")
    no_template = save_reward_model(tmp_path / "plain", chat_template=None)
    assert_refused(
        no_template, r"the tokenizer of .*plain' has no chat template: take another reward model$"
    )
    policy = save_reward_model(tmp_path / "policy", model_class=LlamaForCausalLM)
    assert_refused(policy, r"lack 'score\.weight', which LlamaForSequenceClassification has")


def test_a_template_that_wants_content_in_parts_gets_it(folder: str, tmp_path: Path) -> None:
    parts = "{% for p in m.content %}{{ p['text'] }}{% endfor %}"
    template = TEMPLATE.replace("{{ m.content }}", parts)
    assert template != TEMPLATE
    in_parts = save_reward_model(tmp_path, chat_template=template)
    np.testing.assert_array_equal(
        make(in_parts).score(PROMPTS, RESPONSES), make(folder).score(PROMPTS, RESPONSES)
    )
    lost = save_reward_model(tmp_path / "lost", chat_template="<user>{{ messages[0]['content'] }}")
    assert_refused(lost, r"'.*lost' has a chat template that cannot be used: it leaves out what")


def test_a_token_without_a_row_is_refused(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens("<more>")
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"has the token '<more>' of number .*: add rows"):
        RewardModelOracle.check_config(model=folder)


def test_models_that_are_not_there_are_refused(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert_refused(
        str(nowhere), rf"^oracle_config\.model: '{nowhere}' was not found; looked for .*{nowhere};"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(str(empty), rf"^oracle_config\.model: the folder {empty} has no config\.json$")
    weightless = tmp_path / "weightless"
    save_reward_model(weightless)
    (weightless / "model.safetensors").unlink()
    assert_refused(str(weightless), r"weightless has no model\.safetensors and no index of others$")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"^oracle_config\.batch_size: 0 is not a whole number of at least 1$"),
        ({"batch_size": "8"}, r"^oracle_config\.batch_size: '8' is not"),
        ({"dtype": "bfloat"}, r"^oracle_config\.dtype: 'bfloat' .*\(did you mean 'bfloat16'\?\)$"),
        ({"device": "gpu"}, r"^oracle_config\.device: 'gpu' is no device of PyTorch"),
    ],
)
def test_bad_options_are_refused(folder: str, options: dict, message: str) -> None:
    assert_refused(folder, message, **options)


def test_a_model_that_is_no_text_is_refused() -> None:
    assert_refused(None, r"^oracle_config\.model: None is no name or folder of a model$")
