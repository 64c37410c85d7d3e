"""REINFORCE on the ERM: advantages and loss by hand, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rllib_sea.policy_update.objectives.losses import check_loss
from rllib_sea.policy_update.objectives.reinforce import advantages, extreme, reinforce
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses
from text_duel.errors import ConfigError


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_advantages_by_hand() -> None:
    """One member, two candidates log 3 apart: the better one wins with 3/4."""
    rewards = np.array([[[0.0, math.log(3.0)]]])
    assert advantages(rewards)[0].tolist() == pytest.approx([-0.25, 0.25])
    assert advantages(rewards, nudge=0.1)[0].tolist() == pytest.approx([-0.15, 0.35])


def test_advantages_are_means_over_members_and_all_others() -> None:
    rewards = np.random.default_rng(0).normal(size=(3, 2, 4))
    found = advantages(rewards)
    assert found.shape == (2, 4)
    for prompt in range(2):
        for i in range(4):
            wins = [
                sigmoid(rewards[k, prompt, i] - rewards[k, prompt, j])
                for k in range(3)
                for j in range(4)
                if j != i
            ]
            assert found[prompt, i] == pytest.approx(sum(wins) / len(wins) - 0.5)
    np.testing.assert_allclose(found.sum(axis=1), 0.0, atol=1e-12)


def test_members_that_disagree_say_nothing_and_large_rewards_are_bounded() -> None:
    against = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert advantages(against).tolist() == [[0.0, 0.0]]
    assert advantages(np.array([[[1e6, -1e6, -1e6]]]))[0].tolist() == [0.5, -0.25, -0.25]


def test_extremes_by_hand() -> None:
    advantage = np.array([0.1, -0.3, 0.4, -0.2, 0.0])
    assert extreme(advantage, 2).tolist() == [1, 2]
    assert extreme(advantage, 4).tolist() == [0, 1, 2, 3]
    assert extreme(advantage, None).tolist() == extreme(advantage, 6).tolist() == [0, 1, 2, 3, 4]
    assert extreme(np.zeros(3), 2).tolist() == [0, 2]


def test_the_loss_by_hand() -> None:
    """0.5 * 3 + 0.1 * 2 = 1.7; -0.25 * 4 + 0.1 * 0 = -1."""
    found = reinforce(
        torch.tensor([-3.0, -4.0]), torch.tensor([2.0, 0.0]), torch.tensor([0.5, -0.25]), 0.1
    )
    assert found.tolist() == pytest.approx([1.7, -1.0])


def test_pieces_keep_each_candidate_with_its_advantage() -> None:
    responses = tuple((i,) for i in range(5))
    prompt = CandidateAdvantages(PromptResponses((7,), responses), (0.0, 0.1, 0.2, 0.3, 0.4))
    pieces = prompt.pieces(2)
    assert [len(piece.advantages) for piece in pieces] == [1, 2, 2]
    found = {
        response: advantage
        for piece in pieces
        for response, advantage in zip(piece.candidates.responses, piece.advantages, strict=True)
    }
    assert found == dict(zip(responses, prompt.advantages, strict=True))
    with pytest.raises(ValueError, match="as many advantages"):
        CandidateAdvantages(prompt.candidates, (0.0,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nugde": 0.1}, "unknown option 'nugde'; there are min_labels, nudge"),
        ({"nudge": -0.1}, "loss_config: nudge: -0.1 is"),
        ({"min_labels": 1.5}, "loss_config: min_labels: 1.5 is"),
        ({"extremes": 0}, "loss_config: extremes: 0 is less than 2"),
        ({"extremes": 3}, "loss_config: extremes: 3 is odd: half are best, half worst"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_loss("reinforce", options)
    check_loss("reinforce", {"min_labels": 0, "nudge": 0.05, "extremes": 2})
