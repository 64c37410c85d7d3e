"""vLLM and transformers behind one interface: the same tests for both engines."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.policy.sampler import Sampler, check_sampler, make_sampler
from rllib_sea.policy.tokenization import PromptTokenizer
from tests.helpers.tiny_models import make_tiny_policy
from text_duel.errors import ConfigError

SAMPLING = SamplingConfig(max_new_tokens=12, temperature=1.0)
MAX_MODEL_LEN = 256
OPTIONS = {
    "vllm": {"dtype": "float32", "kv_cache_gib": 0.25, "max_num_seqs": 64, "num_threads": 1},
    "transformers": {"dtype": "float32", "batch_size": 4, "num_threads": 1},
}
LOGPROB_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make_policy(tmp_path_factory.mktemp("samplers") / "policy", seed=0)


@pytest.fixture(scope="module")
def other_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make_policy(tmp_path_factory.mktemp("samplers") / "other", seed=7)


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def sampler(request: pytest.FixtureRequest, policy: Path) -> Iterator[Sampler]:
    engine = make_sampler(request.param, policy, MAX_MODEL_LEN, OPTIONS[request.param])
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts() -> list[tuple[int, ...]]:
    """Of various lengths; the first is longer than a block of the KV cache."""
    rng = np.random.default_rng(0)
    return [tuple(rng.integers(256, size=length).tolist()) for length in (70, 3, 20, 41, 9)]


def _make_policy(folder: Path, seed: int) -> Path:
    """The tiny model with a lively embedding, which is its output's, too: tied, as most are."""
    make_tiny_policy(folder, seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:  # layers that are heard beside the embedding
                weight.copy_(0.2 * torch.randn(weight.shape, generator=rng))
        # Often the most likely token, often not.
        model.lm_head.weight[tokenizer.eos_token_id] *= 2
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(folder)
    return folder


def _tokens(answers: list[list[Candidate]]) -> list[list[tuple[int, ...]]]:
    return [[candidate.token_ids for candidate in row] for row in answers]


def _fresh_engines_tokens(
    kind: str,
    folder: Path,
    prompts: list[tuple[int, ...]],
    seeds: list[int],
    num: int = 2,
    longest: int = SAMPLING.max_new_tokens,
) -> list[list[tuple[int, ...]]]:
    """What an engine samples in a process of its own: vLLM's state is one of the process."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from rllib_sea.duels.records import SamplingConfig\n"
        "from rllib_sea.policy.sampler import make_sampler\n"
        "kind, folder, length, options, prompts, seeds, n, tokens = json.loads(sys.argv[1])\n"
        "sampler = make_sampler(kind, Path(folder), length, options)\n"
        "assert sampler.policy_version == 0\n"
        "rows = sampler.generate(prompts, n, SamplingConfig(tokens), seeds)\n"
        "sampler.close()\n"
        "print(json.dumps([[c.token_ids for c in row] for row in rows]))\n"
    )
    arguments = [kind, str(folder), MAX_MODEL_LEN, OPTIONS[kind], prompts, seeds, num, longest]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [[tuple(ids) for ids in row] for row in json.loads(done.stdout.splitlines()[-1])]


def test_the_same_seed_gives_the_same_tokens(
    sampler: Sampler, prompts: list[tuple[int, ...]]
) -> None:
    seeds = [11, 12, 13, 14, 15]
    first = sampler.generate(prompts, 3, SAMPLING, seeds)
    assert [len(row) for row in first] == [3] * 5
    assert _tokens(sampler.generate(prompts, 3, SAMPLING, seeds)) == _tokens(first)
    other = sampler.generate(prompts, 3, SAMPLING, [seed + 1000 for seed in seeds])
    assert all(a != b for a, b in zip(_tokens(other), _tokens(first), strict=True))
    # The n samples of a prompt differ from one another.
    assert all(len(set(row)) == 3 for row in _tokens(first))


def test_a_prompts_responses_do_not_depend_on_its_batch(
    sampler: Sampler, prompts: list[tuple[int, ...]]
) -> None:
    seeds = [21, 22, 23, 24, 25]
    together = _tokens(sampler.generate(prompts, 2, SAMPLING, seeds))
    backwards = _tokens(sampler.generate(prompts[::-1], 2, SAMPLING, seeds[::-1]))[::-1]
    alone = [
        _tokens(sampler.generate([prompt], 2, SAMPLING, [seed]))[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone == backwards


def test_logprobs_are_those_of_the_model_at_temperature_one(
    sampler: Sampler, policy: Path, prompts: list[tuple[int, ...]]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    hot = SamplingConfig(max_new_tokens=12, temperature=0.7, top_p=0.9)
    answers = sampler.generate(prompts, 2, hot, [31, 32, 33, 34, 35])
    for prompt, row in zip(prompts, answers, strict=True):
        for candidate in row:
            ids = torch.tensor([[*prompt, *candidate.token_ids]])
            with torch.no_grad():
                logps = model(ids).logits[0].log_softmax(-1)
            expected = logps[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0]
            assert candidate.logprobs == pytest.approx(expected.tolist(), abs=LOGPROB_TOLERANCE)


def test_rest_changes_nothing_but_memory(sampler: Sampler, prompts: list[tuple[int, ...]]) -> None:
    """Prompts that were cached before are computed anew."""
    seeds = [41, 42, 43, 44, 45]
    before = sampler.generate(prompts, 2, SAMPLING, seeds)
    sampler.rest()
    assert sampler.generate(prompts, 2, SAMPLING, seeds) == before


def test_the_end_token_is_last_if_and_only_if_it_was_sampled(
    sampler: Sampler, policy: Path, prompts: list[tuple[int, ...]]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    end = tokenizer.eos_token_id
    rows = sampler.generate(prompts, 16, SAMPLING, [41, 42, 43, 44, 45])
    candidates = [candidate for row in rows for candidate in row]
    reasons = Counter(candidate.finish_reason for candidate in candidates)
    assert reasons["stop"] >= 5
    assert reasons["length"] >= 5
    for candidate in candidates:
        tokens = candidate.token_ids
        assert len(candidate.logprobs) == len(tokens) <= 12
        assert end not in tokens[:-1]
        if candidate.finish_reason == "stop":
            assert tokens[-1] == end
        else:
            assert tokens[-1] != end
            assert len(tokens) == 12
        text = tokenizer.decode(list(tokens), skip_special_tokens=True)
        assert candidate.text == text.strip()


def test_greedy_takes_the_most_likely_token(
    sampler: Sampler, policy: Path, prompts: list[tuple[int, ...]]
) -> None:
    """In bf16 two tokens may be equally likely: one that is nearly so will do."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    answers = sampler.generate(prompts, 1, SAMPLING.greedy(), [0] * 5)
    for prompt, (candidate,) in zip(prompts, answers, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *candidate.token_ids]])).logits[0]
        for step, token in enumerate(candidate.token_ids):
            at = logits[len(prompt) - 1 + step]
            assert at[token] >= at.max() - LOGPROB_TOLERANCE
    again = sampler.generate(prompts, 1, SAMPLING.greedy(), [9] * 5)
    assert _tokens(again) == _tokens(answers)


def test_temperature_and_top_p_follow_the_distribution(
    sampler: Sampler, policy: Path, prompts: list[tuple[int, ...]]
) -> None:
    """First tokens of 400 samples beside the model's own distribution."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    prompt = prompts[1]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    seeds = list(range(50, 450, 100))
    for temperature, top_p in ((1.0, 1.0), (0.5, 1.0), (1.0, 0.5)):
        sampling = SamplingConfig(1, temperature, top_p)
        rows = sampler.generate([prompt] * 4, 100, sampling, seeds)
        drawn = Counter(candidate.token_ids[0] for row in rows for candidate in row)
        probabilities = (logits / temperature).softmax(-1)
        if top_p < 1:
            order = probabilities.argsort(descending=True)
            kept = probabilities[order].cumsum(0) - probabilities[order] < top_p
            nucleus = set(order[kept].tolist())
            # Tokens at the edge of the nucleus change places in bf16.
            edge = set(order[max(0, int(kept.sum()) - 3) : int(kept.sum()) + 3].tolist())
            assert set(drawn) <= nucleus | edge
            probabilities = torch.zeros_like(probabilities).scatter(
                0, order[kept], probabilities[order[kept]]
            )
            probabilities /= probabilities.sum()
        for token in probabilities.topk(3).indices.tolist():
            p = float(probabilities[token])
            # Four standard deviations of a count of 400, and what bf16 changes.
            assert abs(drawn[token] - 400 * p) < 4 * math.sqrt(400 * p * (1 - p)) + 400 * 0.03


def test_new_weights_replace_the_old_ones_at_once(
    sampler: Sampler, policy: Path, other_policy: Path, prompts: list[tuple[int, ...]]
) -> None:
    seeds = [61, 62, 63, 64, 65]
    kind = "vllm" if type(sampler).__name__ == "VLLMSampler" else "transformers"
    before = _tokens(sampler.generate(prompts, 2, SAMPLING, seeds))
    version = sampler.policy_version
    sampler.load_weights(load_file(other_policy / "model.safetensors"), version + 3)
    assert sampler.policy_version == version + 3
    # The prompts' KV blocks are cached, of the old weights: they must not be used.
    after = _tokens(sampler.generate(prompts, 2, SAMPLING, seeds))
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert _fresh_engines_tokens(kind, other_policy, prompts, seeds) == after
    sampler.load_weights(load_file(policy / "model.safetensors"), version)
    assert _tokens(sampler.generate(prompts, 2, SAMPLING, seeds)) == before


def test_weights_of_another_model_are_refused(sampler: Sampler, policy: Path) -> None:
    weights = load_file(policy / "model.safetensors")
    version = sampler.policy_version
    with pytest.raises(
        ValueError, match=r"weights do not fit.*unexpected \['model.other.weight'\]"
    ):
        sampler.load_weights(weights | {"model.other.weight": torch.zeros(1)}, 9)
    del weights["model.norm.weight"]
    with pytest.raises(ValueError, match=r"weights do not fit.* missing .*model\.norm\.weight"):
        sampler.load_weights(weights, 9)
    assert sampler.policy_version == version


def test_logprobs_of_given_tokens_are_the_models(
    sampler: Sampler, policy: Path, prompts: list[tuple[int, ...]]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    rows = sampler.logprobs(prompts)
    assert [len(row) for row in rows] == [len(prompt) - 1 for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            logps = model(ids).logits[0].log_softmax(-1)
        expected = logps[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        assert row == pytest.approx(expected, abs=LOGPROB_TOLERANCE)


def test_every_token_that_ends_a_response_ends_it(policy: Path, tmp_path: Path) -> None:
    """Those of config.json and of generation_config.json, several, and one that is no special."""
    folder = tmp_path / "ends"
    shutil.copytree(policy, folder)
    for name, ends in (("config.json", [256, 40, 41]), ("generation_config.json", [50, 51])):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"eos_token_id": ends}))
    prompts, seeds = [(1, 2, 3), (9, 8)], [71, 72]
    tokenizer = PromptTokenizer(folder)
    assert tokenizer.eos_token_ids == {256, 40, 41, 50, 51}
    long = SamplingConfig(max_new_tokens=60, temperature=1.0)
    engine = make_sampler("transformers", folder, MAX_MODEL_LEN, OPTIONS["transformers"])
    ours = [candidate for row in engine.generate(prompts, 32, long, seeds) for candidate in row]
    seen = {candidate.token_ids[-1] for candidate in ours if candidate.finish_reason == "stop"}
    assert len(seen & {40, 41, 50, 51}) >= 3
    for candidate in ours:
        assert not tokenizer.eos_token_ids & set(candidate.token_ids[:-1])
        assert (
            candidate.text
            == tokenizer.tokenizer.decode(
                [t for t in candidate.token_ids if t < 256 and t not in tokenizer.eos_token_ids]
            ).strip()
        )
    rows = _fresh_engines_tokens("vllm", folder, prompts, seeds, num=32, longest=60)
    theirs = [tuple(ids) for row in rows for ids in row]
    ended = {ids[-1] for ids in theirs if len(ids) < 60}
    assert ended <= tokenizer.eos_token_ids
    assert len(ended & {40, 41, 50, 51}) >= 3
    assert all(not tokenizer.eos_token_ids & set(ids[:-1]) for ids in theirs)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ConfigError, match="sampler: 'vlm' is none of transformers, vllm") as wrong:
        check_sampler("vlm", {})
    assert "did you mean 'vllm'" in str(wrong.value)
