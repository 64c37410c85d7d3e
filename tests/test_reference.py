"""The plugin beside `examples/sea_reference.py`, a second derivation of the paper.

From the same candidates, seed and labels both must select the same duels, draw the same members,
replay the same labels and take the same steps.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.exploration import STRATEGIES, Proposals, Selection, text_identities
from rllib_sea.exploration.mixing import draw_synthetic, gamma_at, mix
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy.transformers_sampler import TransformersSampler
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from rllib_sea.policy_update.objectives.losses import LOSSES, PairLogProbs
from rllib_sea.randomness import Stream, generator, generators, integer_seeds, prompt_order
from rllib_sea.reward_model.encoder import FeatureEncoder
from rllib_sea.reward_model.ensemble import EnsembleMLP, ensemble_loss, regularisation_strength
from rllib_sea.reward_model.replay import PreferenceReplay
from rllib_sea.settings.duels import Duels
from tests.helpers.preference_pairs import random_pairs
from tests.helpers.tiny_models import make_tiny_policy
from tests.helpers.weights import assert_same_updates
from text_duel.encoders import MiniLMEncoder
from text_duel.labels import LabelRule

SCRIPT = Path(__file__).parents[1] / "examples" / "sea_reference.py"
NAMES = {"bai": "bai_ts", "ee": "ee_ts", "passive": "passive"}
MEMBERS, PROMPTS, CANDIDATES = 5, 8, 6


def load_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sea_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()


def random_round(seed: int) -> tuple[list[list[str]], torch.Tensor]:
    """Candidates with repeated texts, and float32 rewards (K, B, M) that equal texts share."""
    rng = np.random.default_rng([seed, 99])
    distinct = int(rng.integers(1, 6))
    texts = [[f"text {n}" for n in row] for row in rng.integers(distinct, size=(PROMPTS, 6))]
    values = rng.normal(size=(MEMBERS, PROMPTS, CANDIDATES)).astype(np.float32)
    values[:, :2] = np.abs(values[:1, :2])  # prompts whose favourite all members share
    rewards = torch.from_numpy(values)
    return texts, rewards.gather(2, text_identities(texts).expand(MEMBERS, -1, -1))


def as_proposals(texts: list[list[str]], rewards: torch.Tensor) -> Proposals:
    return Proposals(
        rewards=rewards,
        texts=text_identities(texts),
        log_probs=torch.zeros(PROMPTS, CANDIDATES),
        implicit_rewards=None,
        from_reference=torch.zeros(CANDIDATES, dtype=torch.bool),
        finished=torch.ones(PROMPTS, CANDIDATES, dtype=torch.bool),
    )


def select(name: str, proposals: Proposals, seed: int, round_: int) -> Selection:
    rngs = generators(seed, round_, range(PROMPTS), Stream.SELECTION)
    return STRATEGIES[NAMES[name]].select(proposals, rngs)


def test_the_file_stays_short_and_stands_alone() -> None:
    source = SCRIPT.read_text()
    assert len(source.splitlines()) < 400
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    others = imported - set(sys.stdlib_module_names)
    assert others == {"numpy", "torch", "transformers", "text_duel"}


def test_streams_and_prompts() -> None:
    streams = [stream for stream in Stream if hasattr(reference, stream.name)]
    assert len(streams) == 8
    for stream in streams:
        assert getattr(reference, stream.name) == stream
        ours = generator(3, 4, 5, stream).random(3)
        assert reference.generator(3, 4, 5, int(stream)).random(3).tolist() == ours.tolist()
    walk = list(itertools.islice(reference.prompt_order(7, 2), 20))
    assert walk == prompt_order(7, 2, 0, 20)
    assert walk[5:] == prompt_order(7, 2, 5, 15)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_duels_and_members(name: str) -> None:
    compared = 0
    for seed in range(60):
        texts, rewards = random_round(seed)
        ours = select(name, as_proposals(texts, rewards), seed, round_=seed % 3)
        for b in range(PROMPTS):
            assert ours.valid[b] == (len(set(texts[b])) > 1)
            if not ours.valid[b]:
                continue
            rng = reference.generator(seed, seed % 3, b, reference.SELECTION)
            first, second, member = reference.STRATEGIES[name](rewards[:, b], texts[b], rng)
            # Texts, not indices: among copies of one text rounding may decide.
            assert texts[b][ours.first[b]] == texts[b][first], (seed, b)
            assert texts[b][ours.second[b]] == texts[b][second], (seed, b)
            assert ours.member[b] == member
            compared += 1
    assert compared > 300


@pytest.mark.parametrize("gamma", [0.7, 0.0, 1.0, [[0, 1.0], [30, 1.0], [31, 0.7], [90, 0.2]]])
def test_the_same_prompts_are_synthetic(gamma: float | list[list[float]]) -> None:
    for seed, queries in itertools.product(range(20), (0, 30, 31, 60, 500)):
        ours = draw_synthetic(
            gamma_at(gamma, queries), generators(seed, queries, range(PROMPTS), Stream.MIXING)
        )
        theirs = [
            reference.is_synthetic(
                gamma, queries, reference.generator(seed, queries, b, reference.MIXING)
            )
            for b in range(PROMPTS)
        ]
        assert ours == theirs


def test_the_same_synthetic_pairs() -> None:
    members = set()
    for seed in range(60):
        texts, rewards = random_round(seed)
        proposals = as_proposals(texts, rewards)
        selection = select("ee", proposals, seed, round_=1)
        rngs = generators(seed, 1, range(PROMPTS), Stream.SYNTHETIC_LABEL)
        ours = mix(
            selection,
            proposals,
            Duels(),
            synthetic=[True] * PROMPTS,
            audited=[False] * PROMPTS,
            rngs=rngs,
        )
        for b in range(PROMPTS):
            if selection.valid[b]:
                rng = reference.generator(seed, 1, b, reference.SYNTHETIC_LABEL)
                pair = int(ours.first[b]), int(ours.second[b])
                won, lost, member = reference.synthetic_pair(rewards[:, b], texts[b], rng)
                assert ours.member[b] == member
                assert ours.preference[b] == 1.0
                assert [texts[b][i] for i in pair] == [texts[b][won], texts[b][lost]]
                members.add(member)
    assert len(members) == MEMBERS


class FixedOracle:
    """Gives one probability."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def compare(self, prompts: list[object], first: list[str], second: list[str]) -> np.ndarray:
        return np.full(len(prompts), self.probability)


@pytest.mark.parametrize("probability", [0.0, 0.49, 0.5, 0.51, 1.0])
def test_the_same_oracle_labels(probability: float) -> None:
    seeds = integer_seeds(1, 2, range(40), Stream.LABEL)
    ours = [LabelRule().draw(probability, np.random.default_rng(seed)) for seed in seeds]
    theirs = [
        reference.oracle_label(
            FixedOracle(probability), None, "a", "b", reference.generator(1, 2, b, reference.LABEL)
        )
        for b in range(40)
    ]
    assert ours == theirs
    assert len(set(ours)) == (2 if probability == 0.5 else 1)


def test_the_same_features() -> None:
    prompts = ["Summarise: the cat sat on the mat.", "Summarise: " + "a long story " * 200]
    responses = [["A cat sat.", "", "A cat sat."], ["It was long.", "Nothing.", "So long."]]
    encoder = MiniLMEncoder()
    candidates = [[Candidate(text, (), (), "stop") for text in row] for row in responses]
    ours = FeatureEncoder(encoder).encode(prompts, [(), ()], candidates)
    theirs = torch.stack(
        [reference.features(encoder, p, r) for p, r in zip(prompts, responses, strict=True)]
    )
    torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=0, atol=2e-4)


def ensembles(dim: int, seed: int = 4) -> tuple[EnsembleMLP, list]:
    erm_seed = int(generator(seed, 0, 0, Stream.ERM_INIT).integers(2**31))
    ours = EnsembleMLP(MEMBERS, dim, reference.ERM_HIDDEN, seed=erm_seed)
    return ours, reference.make_ensemble(MEMBERS, dim, seed)


def assert_same_parameters(ours: EnsembleMLP, members: list, atol: float) -> None:
    for k, member in enumerate(members):
        for i, layer in enumerate(member.layers):
            torch.testing.assert_close(layer.weight.T, ours.weights[i][k], rtol=0, atol=atol)
            torch.testing.assert_close(layer.bias, ours.biases[i][k, 0], rtol=0, atol=atol)


def test_the_same_initial_ensemble() -> None:
    ours, members = ensembles(12)
    assert_same_parameters(ours, members, atol=0)
    x = torch.randn(9, 12, generator=torch.Generator().manual_seed(0))
    theirs = torch.stack([member(x) for member in members])
    torch.testing.assert_close(ours(x), theirs)


def test_weights_can_be_copied_in() -> None:
    ours = EnsembleMLP(2, 12, (8, 4), seed=7)
    members = [reference.Member([w[k].detach() for w in ours.weights]) for k in range(2)]
    assert_same_parameters(ours, members, atol=0)


@pytest.mark.parametrize("num_labels", [10, 200])
def test_the_same_erm_updates(num_labels: int) -> None:
    """Three updates of five minibatches: replay, loss, fading lambda and Adam.

    In float64: Adam divides a gradient by its size, and so turns rounding into steps.
    """
    dim = 24
    ours, members = ensembles(dim)
    ours.double()
    phis = [phi for member in members for phi in member.double().parameters()]
    our_adam, their_adam = (
        torch.optim.Adam(parameters, lr=reference.ERM_LR, weight_decay=reference.ERM_WEIGHT_DECAY)
        for parameters in (ours.parameters(), phis)
    )
    replay, labels = PreferenceReplay(), []
    data = np.random.default_rng(0).normal(size=(3 * num_labels, 2, dim)).astype(np.float32)
    for round_ in range(3):
        for chosen, rejected in data[round_ * num_labels : (round_ + 1) * num_labels]:
            replay.add(chosen, rejected)
            labels.append(tuple(torch.from_numpy(side).double() for side in (chosen, rejected)))
        size = min(reference.ERM_MINIBATCH_SIZE, len(replay))
        rng = generator(4, round_, 0, Stream.REPLAY)
        chosen, rejected, *_ = replay.minibatches(reference.ERM_MINIBATCHES, size, rng)
        rng = reference.generator(4, round_, 0, reference.REPLAY)
        rows = np.concatenate(reference.replay_rows(len(labels), rng))
        assert np.array_equal(chosen, data[rows, 0])
        assert np.array_equal(rejected, data[rows, 1])
        strength = regularisation_strength(reference.ERM_LAMBDA, size, len(replay), fade=True)
        for start in range(0, len(chosen), size):
            part = slice(start, start + size)
            loss = ensemble_loss(
                ours(torch.from_numpy(chosen[part]).double()),
                ours(torch.from_numpy(rejected[part]).double()),
                ours.squared_distance_from_start(),
                strength,
            )
            our_adam.zero_grad()
            loss.backward()
            our_adam.step()
        rng = reference.generator(4, round_, 0, reference.REPLAY)
        theirs = reference.update_erm(members, their_adam, labels, rng)
        assert theirs == pytest.approx(loss.item() / MEMBERS, rel=1e-6)
    # Fifteen steps of 1e-3.
    assert ours.squared_distance_from_start().min() > 1e-2
    assert_same_parameters(ours, members, atol=1e-7)


@pytest.mark.parametrize("name", ["dpo", "ipo", "slic"])
def test_the_same_losses(name: str) -> None:
    log_probs = 20 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    logps = PairLogProbs(*log_probs, torch.ones(50), torch.ones(50))
    for beta in (0.1, 0.5):
        ours, theirs = (
            LOSSES[name].function(logps, beta),
            reference.LOSSES[name](logps.margin(), beta),
        )
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["dpo", "ipo", "slic"])
def test_the_same_policy_updates(name: str, tiny_policy: Path) -> None:
    learner = PolicyLearner(
        PolicyTrainConfig(
            loss=name,
            beta=reference.BETA[name],
            policy_lr=1e-3,
            policy_betas=reference.POLICY_BETAS,
            lr_schedule="constant",
            max_grad_norm=reference.MAX_GRAD_NORM,
            policy_minibatch_size=4,
            train_precision="fp32",
            model_path=str(tiny_policy),
        )
    )
    policy, initial = (
        AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32).eval()
        for _ in range(2)
    )
    adam = torch.optim.AdamW(
        policy.parameters(), lr=1e-3, betas=reference.POLICY_BETAS, weight_decay=0.0
    )
    for seed in (2, 3):
        pairs = random_pairs(6, seed=seed)
        ours = learner.update(pairs)
        theirs = reference.update_policy(
            policy,
            initial,
            adam,
            [
                (list(p.prompt_token_ids), list(p.chosen_token_ids), list(p.rejected_token_ids))
                for p in pairs
            ],
            name,
        )
        assert theirs == pytest.approx([ours["loss"], ours["margin"]], rel=1e-4, abs=1e-4)
    assert abs(ours["margin"]) > 0.05
    assert_same_updates(learner._strategy.weights(), dict(policy.named_parameters()))


@pytest.fixture
def lively_policy(tmp_path: Path) -> Path:
    """A tiny policy whose responses end at various lengths."""
    folder = make_tiny_policy(tmp_path / "lively", seed=1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        end = model.get_input_embeddings().weight[model.config.eos_token_id]
        end.copy_(model.get_input_embeddings().weight.mean(0) + 3 * end)
    model.save_pretrained(folder)
    return folder


def test_the_same_candidates(lively_policy: Path) -> None:
    texts = ["a post about a cat", "b", "another, longer post about two cats"]
    tokenizer = AutoTokenizer.from_pretrained(lively_policy)
    prompts = [list(ids) for ids in PromptTokenizer(lively_policy).encode_all(texts)]
    assert [reference.prompt_tokens(tokenizer, text) for text in texts] == prompts
    sampler = TransformersSampler(lively_policy, dtype="float32", batch_size=2)
    sampling = SamplingConfig(reference.MAX_NEW_TOKENS, reference.TEMPERATURE)
    seeds = integer_seeds(0, 1, range(3), Stream.SAMPLING)
    ours = sampler.generate(prompts, CANDIDATES, sampling, seeds)
    model = AutoModelForCausalLM.from_pretrained(lively_policy, dtype=torch.float32).eval()
    for b, prompt in enumerate(prompts):
        rng = reference.generator(0, 1, b, reference.SAMPLING)
        theirs = reference.sample(model, tokenizer, prompt, CANDIDATES, rng)
        assert [(list(c.token_ids), c.text) for c in ours[b]] == theirs
    reasons = {candidate.finish_reason for row in ours for candidate in row}
    assert reasons == {"stop", "length"}
    greedy = sampler.generate(prompts, 1, sampling.greedy(), [0] * 3)
    assert [row[0].text for row in greedy] == reference.greedy(model, tokenizer, prompts)


def test_the_command_runs_to_its_end(tiny_policy: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--model", str(tiny_policy), "--queries", "5"]
    command += ["--prompts-per-round", "3", "--candidates", "3", "--members", "2"]
    command += ["--gamma", "[[0, 1.0], [3, 0.6]]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rounds = [line for line in done.stdout.splitlines() if line.startswith("round ")]
    assert rounds[0].startswith("round 1: 3/5 queries, 0 synthetic")
    assert f"round {len(rounds)}: 5/5 queries" in rounds[-1]
    assert "win rate against the initial policy" in done.stdout
