"""The peer: TRL's OnlineDPOTrainer on the same model and prompts.

Up to three times: in float32 and with float32 weights under bf16 autocast, as ours may be told to
compute, and with bfloat16 weights, which TRL loads by default if the checkpoint has them. The
last is the fastest, but neighbours of a bfloat16 weight of 0.02 are 1e-4 away: fifty steps of the
recipe's learning rate.

Run by `round_time.py` with the interpreter of TRL's own virtual environment:
``python peer_trl.py WORK RESULT``, two JSON files. This project is not installed there.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer


class _Clock(TrainerCallback):
    """Keeps when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())


def by_length(completions: list[Any], **kwargs: Any) -> list[float]:
    """A reward that costs nothing: shorter is better."""
    return [-float(len(str(completion))) for completion in completions]


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """Trains for as many steps as there are batches of prompts.

    Args:
        work: ``model``, ``prompts`` (text, or conversations), ``prompts_per_round``,
            ``max_length``, ``max_new_tokens``, ``temperature``, ``top_p``, ``beta``, ``lr``,
            ``betas``, ``max_grad_norm``, ``dtype``, ``threads``.

    Returns:
        ``version`` and, by variant, the seconds of each step but the first, of which
        only the end is known.
    """
    torch.set_num_threads(work["threads"])
    variants = {
        "float32 weights, autocast": ("float32", True),
        "bfloat16 weights": ("bfloat16", True),
    }
    if work["dtype"] == "float32":
        variants = {"float32": ("float32", False), **variants}
    seconds = {name: _seconds(work, *variant) for name, variant in variants.items()}
    return {"version": trl.__version__, "seconds": seconds}


def _seconds(work: dict[str, Any], dtype: str, autocast: bool) -> list[float]:
    gc.collect()  # the trainer before refers to itself
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        OnlineDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(work["model"], dtype=dtype),
            reward_funcs=by_length,
            args=OnlineDPOConfig(
                output_dir=folder,
                use_cpu=not torch.cuda.is_available(),
                bf16=autocast,
                # On by default; it turns the cache off in generation.
                gradient_checkpointing=False,
                per_device_train_batch_size=work["prompts_per_round"],
                max_steps=len(work["prompts"]) // work["prompts_per_round"],
                train_sampling_strategy="sequential",
                # Nothing is cut off.
                max_length=work["max_length"],
                max_new_tokens=work["max_new_tokens"],
                temperature=work["temperature"],
                top_p=work["top_p"],
                beta=work["beta"],
                learning_rate=work["lr"],
                lr_scheduler_type="constant",
                adam_beta1=work["betas"][0],
                adam_beta2=work["betas"][1],
                max_grad_norm=work["max_grad_norm"],
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in work["prompts"]]),
            processing_class=AutoTokenizer.from_pretrained(work["model"]),
            callbacks=[clock],
        ).train()
    return [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]


if __name__ == "__main__":
    work_file, result_file = map(Path, sys.argv[1:])
    result_file.write_text(json.dumps(measure(json.loads(work_file.read_text()))))
