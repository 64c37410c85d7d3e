"""Starts an engine on each of several models and prints how far it is from what it was given.

Its encoders are what a run has beside the engine with ``erm_encoder: policy``.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import numpy as np
from torch._dynamo.utils import counters

from rllib_sea.duels.records import Candidate
from rllib_sea.policy.audit import PublishedWeights, sampler_gap
from rllib_sea.policy.sampler import make_sampler
from rllib_sea.reward_model.policy_encoder import PolicyEncoder
from tests.helpers.published_weights import read_published


def gaps(kind: str, folder: Path, options: dict[str, object]) -> dict[str, float]:
    """Gaps in nats per token, by what was done before.

    Args:
        kind: The sampler.
        folder: Has the model in ``model`` and :class:`PublishedWeights` in ``*.pickle``.
        options: The sampler's.
    """
    published: dict[str, PublishedWeights] = {
        which: read_published(folder / f"{which}.pickle")
        for which in ("initial", "rehearsal", "trained")
    }
    earlier = PolicyEncoder(folder / "model")
    expected = features(earlier)
    sampler = make_sampler(kind, folder / "model", 64, options)
    later = PolicyEncoder(folder / "model")
    found = {
        "encoder beside it": max(
            float(np.abs(features(encoder) - expected).max()) for encoder in (earlier, later)
        ),
        "start": sampler_gap(sampler, published["initial"].probe),
        # What an audit would see if the engine had kept its weights.
        "untouched": sampler_gap(sampler, published["trained"].probe),
        "unrehearsed": sampler_gap(sampler, published["rehearsal"].probe),
    }
    for version, which in enumerate(("rehearsal", "initial", "trained", "initial"), 1):
        sampler.load_weights(published[which].tensors, version)
        found[f"{version} {which}"] = sampler_gap(sampler, published[which].probe)
    sampler.close()
    found["functions compiled"] = counters["stats"]["unique_graphs"]
    return found


def features(encoder: PolicyEncoder) -> np.ndarray:
    """Of one response to one prompt."""
    response = Candidate("", (20, 21, 22), (), "length")
    return encoder.encode([""], [(10, 11, 12)], [[response]])


def main() -> None:
    kind, options, folders = json.loads(sys.argv[1])
    for folder in map(Path, folders):
        try:
            result: object = gaps(kind, folder, options)
        except Exception:
            result = traceback.format_exc()
        print("GAPS " + json.dumps([folder.name, result]), flush=True)


if __name__ == "__main__":
    main()
