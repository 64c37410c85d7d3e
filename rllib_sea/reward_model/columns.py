"""The columns of a batch of labels, as the ERM learns from them."""

from __future__ import annotations

CHOSEN_FEATURES = "chosen_features"
REJECTED_FEATURES = "rejected_features"
MEMBER_MASKS = "member_masks"
PREFERENCES = "preferences"
WEIGHTS = "weights"
STRENGTH = "regularisation_strength"
