"""Versions of the policy's weights on their way to the engines."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rllib_sea.policy.audit import Probe, PublishedWeights
from rllib_sea.policy_update.publishing import PublishedPolicy, Publisher


class Trainer:
    """Has one weight, and says how often it was asked for it."""

    def __init__(self) -> None:
        self.version = 0
        self.weight = torch.zeros(3)
        self.asked: list[str] = []

    def weights(self, which: str) -> PublishedWeights:
        self.asked.append(which)
        return PublishedWeights({"w": self.weight}, Probe(((1, 2),), ((-0.5,),), torch.float32))


@pytest.fixture
def trainer() -> Any:
    return Trainer()


def test_each_version_is_published_once(trainer: Any) -> None:
    publisher = Publisher(trainer, copies=False)
    first = publisher.current()
    assert publisher.current() is publisher.initial() is first
    trainer.version = 1
    assert publisher.current() is publisher.current()
    assert trainer.asked == ["initial", "trained"]


def test_another_policy_of_the_same_version_has_another_name(trainer: Any) -> None:
    publisher = Publisher(trainer, copies=False)
    trainer.version = 3
    before = publisher.current()
    publisher.forget_current()  # a checkpoint was restored
    assert publisher.current().version == before.version
    assert publisher.current().name != before.name


def test_in_one_process_weights_are_not_copied(trainer: Any) -> None:
    published = Publisher(trainer, copies=False).current().fetch()
    assert published.tensors["w"].data_ptr() == trainer.weight.data_ptr()


def test_a_policy_that_is_not_trained_has_no_weights_to_fetch() -> None:
    with pytest.raises(AssertionError):
        PublishedPolicy(1, None).fetch()
