"""What the ERM's options do: accuracy, calibration and diversity against labels.

    python studies/erm_options.py
    python studies/erm_options.py --candidates candidates.json --json erm_options.json
    python studies/erm_options.py --oracle reader --rows "plain heads" "sees the end"

The ERM alone, without a learning policy: 8 responses to each post of `tldr_mini` are sampled once
from the bundled model; each round BAI-TS chooses a pair for each of 16 posts, the oracle labels
it, and the ERM makes its 5 steps. Everything is measured on responses to the 64 test posts.
On 2 cores: 8 minutes to sample, 8 to simulate.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import text_duel
from rllib_sea.duels.records import Candidate, SamplingConfig
from rllib_sea.exploration import STRATEGIES, Proposals, text_identities
from rllib_sea.policy.models import BUNDLED_MODEL, resolve_model
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy.transformers_sampler import TransformersSampler
from rllib_sea.randomness import Stream, generator, generators, integer_seeds, prompt_order
from rllib_sea.reward_model.encoder import make_encoder
from rllib_sea.reward_model.ensemble import EnsembleMLP, ensemble_loss, regularisation_strength
from rllib_sea.reward_model.health import (
    CalibrationWindow,
    argmax_agreement,
    member_disagreement,
    win_probabilities,
)
from rllib_sea.reward_model.replay import PreferenceReplay, draw_mask
from text_duel import Prompt

NUM_CANDIDATES = 8
PROMPTS_PER_ROUND = 16
MEASURED_AT = (64, 256, 1024)
SAMPLING = SamplingConfig(max_new_tokens=32, temperature=0.7)


@dataclass(frozen=True)
class Options:
    """What a simulated ERM is made of; the defaults are SEA's."""

    encoder: str = "minilm"
    sees_end: bool = False
    prior_scale: float = 0.0
    bootstrap: float = 1.0
    fade: bool = True
    num_members: int = 20
    erm_lambda: float = 0.5


ROWS = {
    "plain heads": Options(),
    "prior 0.5": Options(prior_scale=0.5),
    "prior 1": Options(prior_scale=1.0),
    "prior 3": Options(prior_scale=3.0),
    "bootstrap 0.5": Options(bootstrap=0.5),
    "prior 1, bootstrap 0.5": Options(prior_scale=1.0, bootstrap=0.5),
    "lambda 0.5, fixed": Options(fade=False),
    "policy encoder": Options(encoder="policy"),
    "policy encoder, prior 1": Options(encoder="policy", prior_scale=1.0),
    "sees the end": Options(sees_end=True),
    "policy encoder, sees the end": Options(encoder="policy", sees_end=True),
}


@dataclass(frozen=True)
class Pool:
    """Prompts with M responses each, as the ERM and the oracle see them.

    Attributes:
        features: (B, M, d).
        texts: (B, M) text identities.
        scores: (B, M) by the oracle.
    """

    features: np.ndarray
    texts: torch.Tensor
    scores: np.ndarray


# -- Responses ------------------------------------------------------------------------


def load_prompts(split: str) -> list[Prompt]:
    config = {"prompts": "tldr_mini", "split": split}
    return list(text_duel.load_prompts(**text_duel.prompt_options(config)))


def sample_candidates(split: str) -> list[list[Candidate]]:
    """M responses of the bundled model to each post of a split."""
    path = resolve_model(BUNDLED_MODEL)
    prompts = PromptTokenizer(path).encode_all([prompt.text for prompt in load_prompts(split)])
    # Prompts of like length together: the sampler pads.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    seeds = integer_seeds(0, 0, range(len(prompts)), Stream.SAMPLING)
    candidates = TransformersSampler(path).generate(
        [prompts[i] for i in order], NUM_CANDIDATES, SAMPLING, [seeds[i] for i in order]
    )
    return [row for _, row in sorted(zip(order, candidates, strict=True))]


def load_candidates(file: Path | None) -> dict[str, list[list[Candidate]]]:
    """Responses by split, from the file if it is there."""
    if file is not None and file.is_file():
        kept = json.loads(file.read_text())
        return {
            split: [[Candidate(**fields) for fields in row] for row in rows]
            for split, rows in kept.items()
        }
    candidates = {split: sample_candidates(split) for split in ("train", "test")}
    if file is not None:
        plain = {
            split: [[asdict(candidate) for candidate in row] for row in rows]
            for split, rows in candidates.items()
        }
        file.write_text(json.dumps(plain))
    return candidates


def make_pool(
    split: str, options: Options, oracle: text_duel.Oracle, candidates: list[list[Candidate]]
) -> Pool:
    prompts, path = load_prompts(split), resolve_model(BUNDLED_MODEL)
    texts = [prompt.text for prompt in prompts]
    token_ids = PromptTokenizer(path).encode_all(texts)
    encoder = make_encoder(options.encoder, path, sees_end=options.sees_end)
    features = encoder.encode(texts, token_ids, candidates)
    responses = [candidate.text for row in candidates for candidate in row]
    owners = [prompt for prompt in prompts for _ in range(NUM_CANDIDATES)]
    scores = oracle.score(owners, responses)
    identities = text_identities([[candidate.text for candidate in row] for row in candidates])
    return Pool(features, identities, scores.reshape(-1, NUM_CANDIDATES))


# -- The ERM --------------------------------------------------------------------------


class SimulatedERM:
    """The ensemble, its optimizer and its replay, as SEA runs them with its default settings."""

    def __init__(self, options: Options, dim: int, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.ensemble = EnsembleMLP(
            options.num_members, dim, seed=seed, prior_scale=options.prior_scale
        )
        self.optimizer = torch.optim.Adam(
            self.ensemble.parameters(), lr=1e-3, weight_decay=5e-5, fused=True
        )
        self.replay = PreferenceReplay()

    @torch.inference_mode()
    def rewards(self, features: np.ndarray) -> torch.Tensor:
        """(K, B, M) rewards of features (B, M, d)."""
        flat = self.ensemble(torch.from_numpy(features).flatten(0, 1))
        return flat.view(-1, *features.shape[:2])

    def add(self, chosen: np.ndarray, rejected: np.ndarray) -> None:
        options, mask = self.options, None
        if options.bootstrap < 1:
            rng = generator(self.seed, 0, len(self.replay), Stream.BOOTSTRAP)
            mask = draw_mask(options.num_members, options.bootstrap, rng)
        self.replay.add(chosen, rejected, mask)

    def update(self, round_index: int) -> None:
        num_labels = len(self.replay)
        size = min(128, num_labels)
        rng = generator(self.seed, round_index, 0, Stream.REPLAY)
        chosen, rejected, masks, *_ = self.replay.minibatches(5, size, rng)
        strength = regularisation_strength(
            self.options.erm_lambda, size, num_labels, self.options.fade
        )
        for start in range(0, len(chosen), size):
            rows = slice(start, start + size)
            loss = ensemble_loss(
                self.ensemble(torch.from_numpy(chosen[rows])),
                self.ensemble(torch.from_numpy(rejected[rows])),
                self.ensemble.squared_distance_from_start(),
                strength,
                None if masks is None else torch.from_numpy(masks[rows]),
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def measure(erm: SimulatedERM, pool: Pool) -> dict[str, float]:
    """How the ERM does on every pair of different responses to a prompt."""
    rewards = erm.rewards(pool.features).numpy()
    texts = pool.texts.numpy()
    every_pair = np.ones((len(texts), NUM_CANDIDATES, NUM_CANDIDATES), dtype=bool)
    rows, first, second = np.nonzero(np.triu(every_pair, k=1))
    different = texts[rows, first] != texts[rows, second]
    rows, first, second = rows[different], first[different], second[different]
    pairs = np.stack([rewards[:, rows, first], rewards[:, rows, second]]).transpose(2, 0, 1)
    first_wins = pool.scores[rows, first] > pool.scores[rows, second]
    favoured = (pairs[:, 0] - pairs[:, 1]).mean(axis=1) > 0
    probabilities = win_probabilities(pairs).mean(axis=1)
    calibration = CalibrationWindow(size=len(rows))
    calibration.add(probabilities, first_wins)
    return {
        "accuracy": float((favoured == first_wins).mean()),
        "calibration error": calibration.error(),
        "disagreement": member_disagreement(pairs),
        "agreement": argmax_agreement(rewards, texts),
    }


def simulate(options: Options, train: Pool, test: Pool, seed: int) -> dict[int, dict[str, float]]:
    """What was measured before the first label and after the rounds that reach MEASURED_AT."""
    erm = SimulatedERM(options, train.features.shape[2], seed)
    measured = {0: measure(erm, test)}
    strategy = STRATEGIES["bai_ts"]
    round_index = 0
    while len(erm.replay) < MEASURED_AT[-1]:
        start = round_index * PROMPTS_PER_ROUND
        prompts = prompt_order(len(train.scores), seed, start, PROMPTS_PER_ROUND)
        selection = strategy.select(
            Proposals(
                rewards=erm.rewards(train.features[prompts]),
                texts=train.texts[prompts],
                log_probs=torch.zeros(PROMPTS_PER_ROUND, NUM_CANDIDATES),
                implicit_rewards=None,
                from_reference=torch.zeros(NUM_CANDIDATES, dtype=torch.bool),
                finished=torch.ones(PROMPTS_PER_ROUND, NUM_CANDIDATES, dtype=torch.bool),
            ),
            generators(seed, round_index, range(PROMPTS_PER_ROUND), Stream.SELECTION),
        )
        for i, prompt in enumerate(prompts):
            if selection.valid[i]:
                pair = [int(selection.first[i]), int(selection.second[i])]
                if train.scores[prompt, pair[0]] < train.scores[prompt, pair[1]]:
                    pair.reverse()
                erm.add(*train.features[prompt, pair])
        erm.update(round_index)
        round_index += 1
        for labels in MEASURED_AT:
            if labels <= len(erm.replay) and labels not in measured:
                measured[labels] = measure(erm, test)
    return measured


# -- The table ------------------------------------------------------------------------


def print_table(results: dict[str, list[dict[int, dict[str, float]]]]) -> None:
    """Means over seeds, one line per set of options and number of labels."""
    figures = list(next(iter(results.values()))[0][0])
    print(f"| ERM | labels | {' | '.join(figures)} |")
    print("|---|---|" + "---|" * len(figures))
    for name, runs in results.items():
        for labels in sorted(runs[0]):
            values = [[run[labels][figure] for run in runs] for figure in figures]
            cells = [f"{np.mean(v):.3f} ± {np.std(v):.3f}" for v in values]
            print(f"| {name} | {labels} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--oracle", default="embedding", help="who labels (embedding)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--candidates", type=Path, metavar="FILE", help="keep responses there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    arguments = parser.parse_args()
    candidates = load_candidates(arguments.candidates)
    results: dict[str, Any] = {}
    oracle = text_duel.make_oracle(arguments.oracle)
    pools: dict[tuple[str, bool], tuple[Pool, Pool]] = {}
    for name in arguments.rows:
        options = ROWS[name]
        seen = options.encoder, options.sees_end
        if seen not in pools:
            train, test = (
                make_pool(split, options, oracle, rows) for split, rows in candidates.items()
            )
            pools[seen] = train, test
        results[name] = [simulate(options, *pools[seen], seed) for seed in range(arguments.seeds)]
    print_table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
