"""The floor of a round's policy update: the same pairs through a DPO step in bare torch.

Run by `round_time.py` in a process of its own: ``python bare_torch.py WORK RESULT``, two JSON
files. Two times are taken: of the step as one would write it by hand (two rows per pair), and of
this project's :class:`rllib_sea.policy_update.learner.PolicyLearner` without Ray around it (one
packed row per pair).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

# Token ids of the prompt, the chosen and the rejected response.
Pair = tuple[list[int], list[int], list[int]]


class BareDPO:
    """DPO by hand: fp32 weights, autocast to ``dtype``, logits at response positions only.

    Args:
        work: What :func:`measure` takes.
    """

    def __init__(self, work: dict[str, Any]) -> None:
        self.work = work
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.policy, self.reference = (
            AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
            .eval()
            .to(self.device)
            for _ in range(2)
        )
        self.reference.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters(), lr=work["lr"], betas=work["betas"], fused=True
        )

    def step(self, pairs: Sequence[Pair]) -> None:
        """One optimizer step on a round's pairs."""
        size = self.work["minibatch_size"]
        pairs = sorted(pairs, key=lambda pair: sum(map(len, pair)))
        for start in range(0, len(pairs), size):
            part = pairs[start : start + size]
            with torch.no_grad():
                reference = self._log_probs(self.reference, part)
            chosen, rejected = (self._log_probs(self.policy, part) - reference).chunk(2)
            loss = functional.softplus(-self.work["beta"] * (chosen - rejected)).sum() / len(pairs)
            loss.backward()
        nn.utils.clip_grad_norm_(self.policy.parameters(), self.work["max_grad_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _log_probs(self, model: Any, pairs: Sequence[Pair]) -> torch.Tensor:
        """(2 B,) summed log-probabilities: the chosen, then the rejected responses."""
        rows = [torch.tensor(prompt + chosen) for prompt, chosen, _ in pairs]
        rows += [torch.tensor(prompt + rejected) for prompt, _, rejected in pairs]
        starts = torch.tensor([len(prompt) for prompt, _, _ in pairs] * 2)[:, None]
        ends = torch.tensor(list(map(len, rows)))[:, None]
        ids = pad_sequence(rows, batch_first=True)
        places = torch.arange(ids.shape[1])
        answer = ((places >= starts) & (places < ends))[:, 1:].to(self.device)
        mask = (places < ends).long().to(self.device)
        ids = ids.to(self.device)
        in_bf16 = self.work["dtype"] == "bfloat16"
        with torch.autocast(self.device, torch.bfloat16, enabled=in_bf16):
            hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
            logits = model.lm_head(hidden[:, :-1][answer])
        token_logps = -functional.cross_entropy(
            logits.float(), ids[:, 1:][answer], reduction="none"
        )
        sums = torch.zeros(len(rows), device=self.device)
        return sums.index_add(0, answer.nonzero()[:, 0], token_logps)


def learner_step(work: dict[str, Any]) -> Callable[[Sequence[Pair]], object]:
    """The step of this project's learner, as a function of a round's pairs."""
    from rllib_sea.duels.records import PreferencePair
    from rllib_sea.policy_update.config import PolicyTrainConfig
    from rllib_sea.policy_update.learner import PolicyLearner

    learner = PolicyLearner(
        PolicyTrainConfig(
            model_path=work["model"],
            beta=work["beta"],
            policy_lr=work["lr"],
            policy_betas=tuple(work["betas"]),
            lr_schedule="constant",
            max_grad_norm=work["max_grad_norm"],
            policy_minibatch_size=work["minibatch_size"],
            train_precision="bf16" if work["dtype"] == "bfloat16" else "fp32",
            threads_per_worker=work["threads"],
        )
    )

    def step(pairs: Sequence[Pair]) -> object:
        records = [
            PreferencePair(str(i), tuple(prompt), tuple(chosen), tuple(rejected), synthetic=False)
            for i, (prompt, chosen, rejected) in enumerate(pairs)
        ]
        return learner.update(records)

    return step


def measure(work: dict[str, Any]) -> dict[str, list[float]]:
    """Makes every round's update.

    Args:
        work: ``model``, ``rounds`` (lists of pairs), ``minibatch_size``, ``beta``, ``lr``,
            ``betas``, ``max_grad_norm``, ``dtype``, ``threads``.

    Returns:
        Seconds of each round, ``by_hand`` and by the ``learner``.
    """
    torch.set_num_threads(work["threads"])
    return {
        "by_hand": _seconds(BareDPO(work).step, work["rounds"]),
        "learner": _seconds(learner_step(work), work["rounds"]),
    }


def _seconds(step: Callable[[Sequence[Pair]], object], rounds: list[list[Pair]]) -> list[float]:
    seconds = []
    for pairs in rounds:
        start = time.perf_counter()
        step(pairs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    work_file, result_file = map(Path, sys.argv[1:])
    result_file.write_text(json.dumps(measure(json.loads(work_file.read_text()))))
