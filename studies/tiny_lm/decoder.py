"""A small decoder, fitted to the bundled posts in minutes, and all that lies beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rllib_sea.policy.models import cache_folder
from studies.tiny_lm import words
from studies.tiny_lm.text import posts, prompt_rows, write_prompts

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
# Folders inside the decoder's.
PROMPTS, ENCODER = "prompts", "encoder"
_COMPLETE = ".complete"


@dataclass(frozen=True)
class DecoderSettings:
    """All that the fitted weights depend on, but for the text and the number of threads.

    Attributes:
        vocabulary: Tokens of the byte-pair tokenizer.
        width, inner_width, layers, heads: Of the decoder.
        context: Its positions.
        window: Tokens of a training row.
        steps: Of AdamW.
        batch: Rows of a step.
        lr: Peak learning rate; a tenth at the end.
        weight_decay: AdamW's.
        seed: Of weights and rows.
    """

    vocabulary: int = 2048
    width: int = 192
    inner_width: int = 512
    layers: int = 4
    heads: int = 6  # of 32 numbers, a size that vLLM has on CPUs
    context: int = 64
    window: int = 40
    steps: int = 400
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.1
    seed: int = 0


def fitted_decoder(settings: DecoderSettings | None = None) -> Path:
    """The decoder's folder; fits it if it is missing.

    Its folder :data:`PROMPTS` has the prompts, its folder :data:`ENCODER` the ERM's encoder.

    Args:
        settings: None for the tier's own.

    Returns:
        A folder that transformers and vLLM load, in :func:`rllib_sea.policy.models.cache_folder`
        under a hash of the settings.
    """
    settings = settings or DecoderSettings()
    space = {"dim": words.DIM, "seed": words.SEED}
    prompts = [prompt_rows(split) for split in ("train", "test")]
    written = json.dumps([dataclasses.asdict(settings), space, posts("train"), prompts])
    key = hashlib.sha256(written.encode()).hexdigest()[:12]
    folder = cache_folder() / f"tiny-lm-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not (folder / _COMPLETE).is_file():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fitting-") as work:
                target = Path(work) / "model"
                (target / PROMPTS).mkdir(parents=True)
                write_prompts(target / PROMPTS)
                fit(settings, target)
                words.write_encoder(target / ENCODER, positions=settings.context)
                (target / _COMPLETE).touch()
                os.replace(target, folder)
    return folder


def make_tokenizer(settings: DecoderSettings) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of the training posts; texts begin with a begin token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" ".join(text) for text in posts("train")), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD
    )


def fit(settings: DecoderSettings, folder: Path) -> float:
    """Fits tokenizer and decoder and writes both.

    A row is the begin token and a training post from one of its sentences on, cut at the
    window: the decoder learns to go on from the beginning of any sentence.

    Args:
        settings: What to fit.
        folder: Where to.

    Returns:
        The mean loss of the last 50 steps, in nats per token.
    """
    tokenizer = make_tokenizer(settings)
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=settings.inner_width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=settings.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    losses = []
    start = time.monotonic()
    for step, (rows, mask) in enumerate(_batches(tokenizer, settings)):
        labels = rows.masked_fill(mask == 0, -100)
        loss = model(input_ids=rows, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            passed = time.monotonic() - start
            print(f"decoder: step {step + 1}, loss {losses[-1]:.2f}, {passed:.0f} s", flush=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return float(np.mean(losses[-50:]))


def _rate(step: int, settings: DecoderSettings) -> float:
    """The share of the peak rate: a rise over 5% of the steps, then a cosine to a tenth."""
    warm_up = max(1, settings.steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, settings.steps - warm_up)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _batches(
    tokenizer: PreTrainedTokenizerFast, settings: DecoderSettings
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields token ids and mask, (batch, window) each, for every step."""
    rows = []
    for sentences in posts("train"):
        for i in range(len(sentences)):
            ids = tokenizer(" ".join(sentences[i:]))["input_ids"]
            rows.append([*ids, tokenizer.eos_token_id][: settings.window])
    rng = np.random.default_rng(settings.seed)
    order: list[int] = []
    for _ in range(settings.steps):
        if len(order) < settings.batch:
            order = rng.permutation(len(rows)).tolist()
        chosen, order = order[: settings.batch], order[settings.batch :]
        ids = torch.full((settings.batch, settings.window), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for place, i in enumerate(chosen):
            ids[place, : len(rows[i])] = torch.tensor(rows[i])
            mask[place, : len(rows[i])] = 1
        yield ids, mask
