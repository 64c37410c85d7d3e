"""RLlib's learner of the ERM, beside plain torch Adam on the same loss."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID, MultiAgentBatch, SampleBatch

from rllib_sea import SEAConfig
from rllib_sea.preference_models import label_nll
from rllib_sea.reward_model.columns import (
    CHOSEN_FEATURES,
    MEMBER_MASKS,
    PREFERENCES,
    REJECTED_FEATURES,
    STRENGTH,
    WEIGHTS,
)
from rllib_sea.reward_model.ensemble import EnsembleMLP, ensemble_loss
from rllib_sea.reward_model.learner import EpistemicRewardLearner
from rllib_sea.reward_model.module import FEATURES, REWARDS

DIM, PAIRS = 6, 24


@pytest.fixture
def learner() -> EpistemicRewardLearner:
    config = SEAConfig()
    config.ensemble_size, config.erm_hidden = 3, (8, 4)
    config.erm_lr, config.erm_weight_decay = 1e-2, 0.1
    spec = config.get_default_rl_module_spec()
    spec.observation_space = gym.spaces.Box(-1, 1, (DIM,), np.float32)
    spec.action_space = gym.spaces.Discrete(2)
    learner = EpistemicRewardLearner(
        config=config, module_spec=MultiRLModuleSpec(rl_module_specs={DEFAULT_POLICY_ID: spec})
    )
    learner.build()
    return learner


def features(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chosen, rejected = rng.normal(size=(2, PAIRS, DIM)).astype(np.float32)
    return chosen, rejected


def update(
    learner: EpistemicRewardLearner,
    chosen: np.ndarray,
    rejected: np.ndarray,
    strength: float,
    masks: np.ndarray | None = None,
    preferences: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    ones = np.ones(len(chosen), dtype=np.float32)
    batch = SampleBatch(
        {
            CHOSEN_FEATURES: chosen,
            REJECTED_FEATURES: rejected,
            PREFERENCES: ones if preferences is None else preferences,
            WEIGHTS: ones if weights is None else weights,
            STRENGTH: np.full(len(chosen), strength, dtype=np.float32),
        }
    )
    if masks is not None:
        batch[MEMBER_MASKS] = masks
    return learner.update(
        batch=MultiAgentBatch({DEFAULT_POLICY_ID: batch}, env_steps=len(chosen)),
        minibatch_size=8,
    )


def ensemble_of(learner: EpistemicRewardLearner) -> EnsembleMLP:
    return learner.module[DEFAULT_POLICY_ID].unwrapped().ensemble


@pytest.mark.parametrize("bootstrap", [False, True])
def test_an_update_equals_plain_adam_minibatch_after_minibatch(
    learner: EpistemicRewardLearner, bootstrap: bool
) -> None:
    ours = EnsembleMLP(3, DIM, (8, 4))
    ours.load_state_dict(ensemble_of(learner).state_dict())
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-2, weight_decay=0.1)
    for seed, strength in ((0, 0.5), (1, 0.1)):
        chosen, rejected = features(seed)
        masks = np.random.default_rng(seed).random((PAIRS, 3)) < 0.5 if bootstrap else None
        update(learner, chosen, rejected, strength, masks)
        for start in range(0, PAIRS, 8):
            rows = slice(start, start + 8)
            loss = ensemble_loss(
                ours(torch.from_numpy(chosen[rows])),
                ours(torch.from_numpy(rejected[rows])),
                ours.squared_distance_from_start(),
                strength,
                None if masks is None else torch.from_numpy(masks[rows]),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    theirs = ensemble_of(learner).state_dict()
    for name, tensor in ours.state_dict().items():
        # Six steps of 1e-2.
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert ours.squared_distance_from_start().detach().min() > 1e-3


@pytest.mark.parametrize(
    ("ties", "tie_margin"),
    [("drop", None), ("soft", None), ("rao_kupper", 1.0), ("davidson", 2.0)],
)
def test_labels_in_doubt_of_any_weight_and_ties_equal_plain_adam(
    learner: EpistemicRewardLearner, ties: str, tie_margin: float | None
) -> None:
    learner.config.ties, learner.config.tie_margin = ties, tie_margin
    ours = EnsembleMLP(3, DIM, (8, 4))
    ours.load_state_dict(ensemble_of(learner).state_dict())
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-2, weight_decay=0.1)
    chosen, rejected = features(0)
    rng = np.random.default_rng(0)
    preferences = np.tile([0.5, 1.0, 0.5, 0.75], PAIRS // 4).astype(np.float32)
    weights = (2 * rng.random(PAIRS)).astype(np.float32)
    metrics = update(learner, chosen, rejected, 0.5, None, preferences, weights)
    for start in range(0, PAIRS, 8):
        rows = slice(start, start + 8)
        c, w = torch.from_numpy(preferences[rows]), torch.from_numpy(weights[rows])
        # In one pass, as the module: a bias that both sides share has a gradient of rounding alone,
        # which Adam divides by its own size.
        both = torch.from_numpy(np.concatenate([chosen[rows], rejected[rows]]))
        rewards = ours(both).split(8, dim=1)
        distance = ours.squared_distance_from_start()
        nll = w * label_nll(rewards[0] - rewards[1], c, ties, tie_margin)
        right = (rewards[0] > rewards[1])[:, c != 0.5]
        optimizer.zero_grad()
        (nll.mean(dim=1) + 0.5 * distance).sum().backward()
        optimizer.step()
    for name, tensor in ours.state_dict().items():
        got = ensemble_of(learner).state_dict()[name]
        torch.testing.assert_close(got, tensor, rtol=1e-4, atol=1e-5, msg=name)
    reported = {key: float(metrics[DEFAULT_POLICY_ID][key].peek()) for key in ("nll", "accuracy")}
    assert reported["nll"] == pytest.approx(nll.mean().item(), rel=1e-4)
    assert reported["accuracy"] == pytest.approx(right.float().mean().item())


def test_the_metrics_are_those_of_the_last_minibatch(learner: EpistemicRewardLearner) -> None:
    chosen, rejected = features(0)
    one, strong = (update(learner, chosen, rejected, strength) for strength in (0.0, 50.0))
    metrics = [
        {key: float(r[DEFAULT_POLICY_ID][key].peek()) for key in ("nll", "distance_from_start")}
        for r in (one, strong)
    ]
    assert metrics[0]["nll"] == pytest.approx(0.69, abs=0.05)
    assert metrics[1]["distance_from_start"] < metrics[0]["distance_from_start"]


def test_the_modules_forward_is_the_ensembles(learner: EpistemicRewardLearner) -> None:
    module = learner.module[DEFAULT_POLICY_ID].unwrapped()
    batch = torch.randn(5, DIM, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rewards = module.forward_inference({FEATURES: batch})[REWARDS]
        assert torch.equal(rewards, module.ensemble(batch))
    assert rewards.shape == (3, 5)


def test_initial_weights_are_in_the_learners_state(learner: EpistemicRewardLearner) -> None:
    update(learner, *features(0), 0.5)
    state = learner.get_state()["rl_module"][DEFAULT_POLICY_ID]
    assert any("initial_" in name for name in state)


def test_priors_are_in_the_state_that_scores_candidates() -> None:
    """What SEA publishes to its env runners: the module's state for inference."""
    config = SEAConfig()
    config.ensemble_size = 3
    spec = config.get_default_rl_module_spec()
    spec.observation_space = gym.spaces.Box(-1, 1, (DIM,), np.float32)
    spec.action_space = gym.spaces.Discrete(2)
    spec.model_config |= {"prior_scale": 1.0, "prior_hidden": [5]}
    source = spec.build()
    spec.model_config["seed"] += 1
    copy = spec.build()
    batch = {FEATURES: torch.randn(4, DIM, generator=torch.Generator().manual_seed(0))}
    assert not torch.equal(
        source.forward_inference(batch)[REWARDS], copy.forward_inference(batch)[REWARDS]
    )
    copy.set_state(source.get_state(inference_only=True))
    assert torch.equal(
        source.forward_inference(batch)[REWARDS], copy.forward_inference(batch)[REWARDS]
    )
