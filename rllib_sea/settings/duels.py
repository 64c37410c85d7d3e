"""The keys of `SEAConfig.duels()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rllib_sea.settings.checks import check_bool, check_int, check_number, check_schedule
from rllib_sea.settings.declaration import checked_elsewhere, key

Gamma = float | Sequence[Sequence[float]]


@dataclass(kw_only=True, eq=False, repr=False)
class Duels:
    """Sets which responses are put to the oracle, and how many."""

    prompts_per_round: int = key(128, "b of Algorithm 2: prompts of one round.", check_int, 1)
    num_candidates: int = key(
        20, "M of Algorithm 2: responses sampled per prompt, at least 2.", check_int, 2
    )
    query_budget: int | None = key(
        None,
        "Labels after which the run ends, never exceeded; None: it does not end by itself.",
        check_int,
        1,
        optional=True,
    )
    exploration_strategy: str = key(
        "bai_ts",
        "Which two candidates duel: a name in docs/exploration.md.",
        checked_elsewhere,
    )
    strategy_config: dict[str, Any] = key(
        {}, "The strategy's options, see docs/exploration.md.", checked_elsewhere
    )
    prompt_acquisition: str | None = key(
        None,
        "`entropy` or `certainty`: choose a round's prompts from a larger pool (APL), which needs "
        "a `gamma` of 1; None: prompts as they come.",
        checked_elsewhere,
    )
    # At least how many depends on another key.
    prompt_pool_size: int | None = key(
        None, "Prompts of that pool, more than `prompts_per_round`.", checked_elsewhere
    )
    policy_sync_interval: int | None = key(
        1,
        "Rounds after which the trained weights sample: 1 is online learning, more is iterative, "
        "None is offline (the initial policy samples all responses).",
        check_int,
        1,
        optional=True,
    )
    # RLlib's discount factor of the same name has no meaning in a bandit. With the default fewer
    # labels are needed than by online DPO with as many policy steps, on the bandit and the tiny
    # language model; the paper's 0.7 and a longer wait need more (docs/results).
    gamma: Gamma | None = key(
        None,
        "Probability that a prompt's pair goes to the oracle and not to the ERM: a number, or a "
        "schedule over queries such as `[[0, 1.0], [1000, 1.0], [1001, 0.7]]`. None: 1 for the "
        "labels of two rounds, then 0.5; always 1 where the ERM labels no pairs (`xpo`, "
        "`prompt_acquisition`, `update_policy: false`).",
        check_schedule,
        0.0,
        1.0,
        optional=True,
    )
    # With a gamma of 0.5 `best_vs_worst` needs fewer labels (docs/results/bandit).
    synthetic_pair: str = key(
        "best_vs_worst",
        "Which pair the ERM labels: the drawn member's best and worst candidate; the "
        "`selected_pair`, as Algorithm 2 reads; or by `bounds` over members, the pair that wins "
        "even if the ERM errs by their spread: docs/reward_model.md#its-own-labels; measured in "
        "docs/results/bandit/README.md#what-makes-sea-fast-and-what-does-not.",
        checked_elsewhere,
    )
    synthetic_labels: str = key(
        "hard",
        "How the ERM labels it: `hard`, by one drawn member's choice (of `bounds` by the mean "
        "reward); `soft`, by the members' mean probability that one response beats the other.",
        checked_elsewhere,
    )
    synthetic_agreement: float = key(
        0.0,
        "Share of the members that must agree on the winner of a pair that the ERM labels; others "
        "are dropped, and counted.",
        check_number,
        0.0,
        1.0,
    )
    synthetic_cut_wins: bool = key(
        True,
        "Whether a response that was cut may win a pair that the ERM labels. False: the winner is "
        "the best that was finished, and a pair without a finished winner is dropped, and counted.",
        check_bool,
    )
    audit_threshold: float | None = key(
        None,
        "The policy learns from the ERM only while that is probably right about more than this "
        "share of labels that it had not seen (the lower end of a 95% interval over the last "
        "`audit_window`); else `gamma` is 1, and with `loss: reinforce` no step is made. None: it "
        "is not asked.",
        check_number,
        0.0,
        1.0,
        optional=True,
    )
    audit_window: int = key(128, "Labels of that window; ties are not among them.", check_int, 1)
    audit_share: float = key(
        0.0,
        "Share of the oracle's questions that are about pairs which the ERM would label; if there "
        "are any, they alone are in the window.",
        check_number,
        0.0,
        1.0,
    )
    measure_online_win_rate: bool = key(
        True,
        "Whether duelled responses are also compared with the references (evaluation questions, "
        "counted apart).",
        check_bool,
    )
    measure_candidate_scores: bool = key(
        False,
        "Whether the oracle scores all candidates of every duel, for regret and the accuracy of "
        "the ERM's labels (evaluation questions, too; needs an oracle with scores).",
        check_bool,
    )
