"""A run whose second models, encoder and reward model, have a short context: it does not end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from tests.helpers.sea_runs import run_to_the_end, tiny_config
from tests.helpers.tiny_models import make_tiny_policy, make_tokenizer

CONTEXT = 64


@pytest.fixture(autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def make_reward_model(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_prompts_without_room_are_left_out_and_overlong_responses_are_counted(
    tmp_path: Path,
) -> None:
    """The template has 4 tokens, a byte 1: with 12 for a response there is room for 48.

    A random policy's bytes are seldom text, and each that is none takes 3 of the reward model's.
    """
    source = tmp_path / "prompts"
    source.mkdir()
    for split, posts in (("train", [46, 48, 49, 47, 300, 45] * 4), ("test", [48, 49, 47])):
        rows = [
            {"id": f"{split}{i}", "post": f"{split}{i:02d}".rjust(size, "x")}
            for i, size in enumerate(posts)
        ]
        (source / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tiny_config(
        make_tiny_policy(tmp_path / "policy"),
        env_config={
            "prompts": str(source),
            "template": "{post}",
            "columns": {"reference": None},
            "oracle": "reward_model",
            "oracle_config": {"model": str(make_reward_model(tmp_path / "reward"))},
        },
        # Its 40 positions are fewer than any prompt's bytes.
        erm_encoder=str(make_tiny_policy(tmp_path / "encoder", context=40)),
        query_budget=16,
        evaluation_num_prompts=None,
    )
    algorithm = config.build_algo()
    try:
        results = run_to_the_end(algorithm)
    finally:
        algorithm.stop()
    assert "8 training prompts do not leave 12 tokens" in results[0]["warnings"]
    assert "1 held-out prompts do not leave 12 tokens" in results[0]["warnings"]
    assert "of the oracle reward_model: they are left out" in results[0]["warnings"]
    assert results[-1]["num_prompts_too_long"] == 8
    assert results[-1]["num_oracle_queries"] == 16
    counts = [result["num_texts_cut"] for result in results]
    assert 0 < counts[0] < counts[-1]
