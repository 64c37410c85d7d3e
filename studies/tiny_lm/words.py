"""The word space that reward and ERM share: a fixed random vector for each word of the posts."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from studies.tiny_lm.text import posts

DIM = 32
SEED = 0
# In neither space: a zero vector.
UNKNOWN = "<|unknown|>"
_WORD = r"[a-z0-9']+"


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(_WORD, text.lower())


@functools.cache
def vocabulary() -> list[str]:
    """The words of the training posts, most frequent first, then by the alphabet."""
    counts = Counter(
        word for sentences in posts("train") for text in sentences for word in words_of(text)
    )
    return sorted(counts, key=lambda word: (-counts[word], word))


@functools.cache
def word_vectors() -> dict[str, np.ndarray]:
    """A normal vector of 32 numbers for each word, scaled to root mean square 1."""
    vectors = np.random.default_rng(SEED).standard_normal((len(vocabulary()), DIM))
    vectors /= np.sqrt((vectors**2).mean(axis=1, keepdims=True))
    return dict(zip(vocabulary(), vectors, strict=True))


def write_encoder(folder: Path, positions: int) -> None:
    """Writes the ERM's encoder, which knows the words' vectors and nothing else.

    It is a Llama without layers, so that its mean-pooled states are the mean of the vectors.
    (Its last norm changes nothing in vectors of root mean square 1.)

    Args:
        folder: Where to.
        positions: Words of the longest text.
    """
    numbers = {word: number for number, word in enumerate([UNKNOWN, *vocabulary()])}
    words = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token=UNKNOWN, pad_token=UNKNOWN
    )
    model = LlamaModel(
        LlamaConfig(
            vocab_size=len(numbers),
            hidden_size=DIM,
            intermediate_size=DIM,
            num_hidden_layers=0,
            num_attention_heads=1,
            max_position_embeddings=positions,
            pad_token_id=numbers[UNKNOWN],
        )
    )
    vectors = np.stack([np.zeros(DIM), *word_vectors().values()])
    with torch.no_grad():
        model.embed_tokens.weight.copy_(torch.from_numpy(vectors))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
