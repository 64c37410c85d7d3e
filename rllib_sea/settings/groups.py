"""All groups of keys."""

from __future__ import annotations

from rllib_sea.settings.duels import Duels
from rllib_sea.settings.evaluation import Evaluation
from rllib_sea.settings.labelling import Labelling
from rllib_sea.settings.policy import Policy
from rllib_sea.settings.preference_learning import PreferenceLearning
from rllib_sea.settings.resources import Resources
from rllib_sea.settings.reward_model import RewardModel
from rllib_sea.settings.rllib import RLlibKeys


class Keys(
    Policy, Duels, Labelling, RewardModel, PreferenceLearning, Evaluation, Resources, RLlibKeys
):
    """The keys that a configuration of SEA has, and their types."""


GROUPS = Keys.__bases__
