"""The floor of a round's generation: the same prompts through bare vLLM, nothing around it.

Run by `round_time.py` in a process of its own: ``python bare_vllm.py WORK RESULT``, two JSON
files. Settings are the best known for the machine, without what SEA asks for beside the text:
no seed per request, no log-probabilities.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def measure(work: dict[str, Any]) -> dict[str, list[float]]:
    """Generates every round's candidates.

    Args:
        work: ``model``, ``rounds`` (lists of prompts' token ids), ``num_candidates``,
            ``max_new_tokens``, ``temperature``, ``top_p``, ``dtype``, ``threads``.

    Returns:
        ``seconds`` and ``tokens`` of each round.
    """
    # Read by vLLM when it is imported.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import torch
    from vllm import LLM, SamplingParams

    on_gpu = torch.cuda.is_available()
    longest = max(len(prompt) for prompts in work["rounds"] for prompt in prompts)
    llm = LLM(
        model=work["model"],
        dtype=work["dtype"],
        max_model_len=longest + work["max_new_tokens"],
        enforce_eager=True,
        enable_prefix_caching=True,
        **({"gpu_memory_utilization": 0.4} if on_gpu else {"block_size": 32}),
    )
    torch.set_num_threads(work["threads"])
    sampling = SamplingParams(
        n=work["num_candidates"],
        max_tokens=work["max_new_tokens"],
        temperature=work["temperature"],
        top_p=work["top_p"],
    )
    result: dict[str, list[float]] = {"seconds": [], "tokens": []}
    for prompts in work["rounds"]:
        llm.reset_prefix_cache()  # as new weights demand
        start = time.perf_counter()
        outputs = llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False
        )
        result["seconds"].append(time.perf_counter() - start)
        result["tokens"].append(sum(len(c.token_ids) for o in outputs for c in o.outputs))
    return result


if __name__ == "__main__":
    work_file, result_file = map(Path, sys.argv[1:])
    result_file.write_text(json.dumps(measure(json.loads(work_file.read_text()))))
