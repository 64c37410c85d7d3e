"""What the ERM sees of a response's end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rllib_sea.duels.records import Candidate, FinishReason
from rllib_sea.reward_model.encoder import EndAwareEncoder, FeatureEncoder, make_encoder
from rllib_sea.reward_model.response_end import end_features
from tests.helpers.tiny_models import make_tiny_policy


def candidate(num_tokens: int, finish_reason: FinishReason, text: str = "a") -> Candidate:
    return Candidate(text, (5,) * num_tokens, (0.0,) * num_tokens, finish_reason)


def test_finished_or_cut_and_the_length_in_octaves() -> None:
    rows = [[candidate(32, "stop"), candidate(32, "length")], [candidate(64, "stop")] * 2]
    features = end_features(rows, dim=16)  # scaled by sqrt(16) / 4
    np.testing.assert_array_equal(features, [[[1, 0], [-1, 0]], [[1, 1], [1, 1]]])
    np.testing.assert_array_equal(end_features(rows, dim=64), 2 * features)
    assert features.dtype == np.float32
    assert end_features([], dim=16).shape == (0, 0, 2)
    assert end_features([[candidate(0, "stop")]], dim=16).tolist() == [[[1, -5]]]


class Ones:
    """A sentence encoder that sees nothing."""

    dim = 4

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.full((len(texts), 4), 0.5, np.float32)


def test_it_stands_beside_the_text() -> None:
    rows = [[candidate(32, "stop"), candidate(64, "length")]]
    text = FeatureEncoder(Ones()).encode(["p"], [()], rows)
    encoder = EndAwareEncoder(FeatureEncoder(Ones()))
    features = encoder.encode(["p"], [()], rows)
    assert features.shape == (1, 2, encoder.dim) == (1, 2, 14)
    np.testing.assert_array_equal(features[..., :12], text)
    np.testing.assert_array_equal(features[..., 12:], end_features(rows, dim=12))


@pytest.mark.parametrize("name", ["policy", "minilm"])
def test_of_every_encoder(name: str, tmp_path: Path) -> None:
    policy = make_tiny_policy(tmp_path)
    rows = [[candidate(3, "stop"), candidate(3, "length")]]
    with_end, without = (make_encoder(name, policy, sees_end=sees) for sees in (True, False))
    assert with_end.dim == without.dim + 2
    one, other = with_end.encode(["p"], [(5, 6)], rows)[0]
    assert not np.array_equal(one, other)
    one, other = without.encode(["p"], [(5, 6)], rows)[0]
    np.testing.assert_array_equal(one, other)
