"""What is compared: the keys in which each method differs from the others."""

from __future__ import annotations

from typing import Any

from studies.bandit.methods import OWN_LABELS, RECIPE

# Real labels alone for a fifth of the queries (in the bandit tier a tenth), then the paper's 0.7.
GAMMA, WARM_UP_SHARE = 0.7, 0.2
# REINFORCE on the ERM after two rounds, an ERM that is hardly pulled towards its start.
EARLY = "reinforce, from 256, weak pull"
# The same where a round has 16 prompts.
EARLY_OF_SMALL_ROUNDS = "reinforce, from 32, weak pull"
_ACTIVE = (
    "bai_ts",
    "drts",
    "random",
    "ee_ts",
    "infomax",
    "delta_ucb",
    "uncertainty",
    "maxmin_lcb",
)
_XPO = {"exploration_strategy": "xpo"}
_OTHERS: dict[str, dict[str, Any]] = {
    "offline": {"exploration_strategy": "passive", "policy_sync_interval": None},
    "iterative": {"exploration_strategy": "passive", "policy_sync_interval": 4},
    "apl": {
        "exploration_strategy": "apl",
        "prompt_acquisition": "entropy",
        "prompt_pool_size": 256,
    },
    "xpo": _XPO | {"optimism": "xpo", "optimism_alpha": 1e-5},
    "selm": _XPO | {"optimism": "selm", "optimism_alpha": 1e-3},
}
# What a headline needs, in the order in which it is run. If nothing else is said, the ERM labels
# the selected pair with gamma 0.7, as in the paper.
HEADLINE = (
    "passive",
    "passive, 64 a round",
    f"bai_ts+mix, {RECIPE}, from 256",
    f"random+mix, {RECIPE}, from 256",
    f"bai_ts+mix, gamma 0.5, {EARLY}",
    f"bai_ts+mix, {RECIPE}",
    f"random+mix, {RECIPE}",
    "bai_ts+mix, best_vs_worst",
    "random+mix, best_vs_worst",
    "bai_ts+mix",
    "drts+mix",
    "random+mix",
    "passive+mix",
    "bai_ts",
)
_ORDER = (*HEADLINE, "offline", "apl", "xpo", "ee_ts+mix", "drts", "random", "iterative", "selm")
# What could make those that mix better, alone or together; run last.
_VARIANTS: dict[str, dict[str, Any]] = {
    **{f"gamma {gamma:g}": {"gamma": gamma} for gamma in (0.5, 0.3)},
    "best_vs_worst": {"synthetic_pair": "best_vs_worst"},
    "M 20": {"num_candidates": 20},
    "20 minibatches": {"erm_minibatches": 20},
    "beta 0.05": {"beta": 0.05},
    "beta 0.3": {"beta": 0.3},
    # From the end of the warm-up on, mixed or not: before it the ERM knows little.
    "reinforce": {"loss": "reinforce", "beta": 0.02},
    # The ERM's labels, or its view, from so many real ones on, instead of after the warm-up.
    **{f"from {labels}": {"warm_up": labels} for labels in (256, 128, 32)},
    # Of all candidates, from which REINFORCE learns, the best and the worst alone.
    "extremes 2": {"loss_config": {"extremes": 2}},
    # A weaker pull towards the start: about the authors' code's.
    "weak pull": {"erm_lambda": 0.01},
    # Or as soon as, and as long as, it is probably right about more labels than a coin would be.
    "audited": {"warm_up": 0, "audit_threshold": 0.5},
    # The ERM's own labels: as in the bandit tier, by bounds, and no win for what was cut.
    **OWN_LABELS,
    "KL 8": {"kl_target": 8.0},
    "bounds": {"synthetic_pair": "bounds"},
    "finished wins": {"synthetic_cut_wins": False},
    **{f"replay {steps}": {"policy_replay": steps} for steps in (1, 3)},
    # Controls of equal updates: of gamma 0.5, 0.7 and 0.3 with 128 prompts a round, 0.5 with 16.
    **{f"{prompts} a round": {"prompts_per_round": prompts} for prompts in (64, 90, 38, 8)},
    # Of small steps, which need no ERM either; evaluated as often per label as the others.
    "32 a round": {"prompts_per_round": 32, "evaluation_interval": 8},
    "16 a round": {"prompts_per_round": 16, "evaluation_interval": 16},
    # DPO that holds on to the chosen response.
    "rpo": {"loss": "rpo"},
    # One reward model in place of an ensemble.
    "K 1": {"ensemble_size": 1},
}
_VARIED = (
    "bai_ts+mix, gamma 0.5",
    "bai_ts+mix, M 20",
    "bai_ts+mix, 20 minibatches",
    "bai_ts+mix, beta 0.05",
    f"bai_ts+mix, {RECIPE}, beta 0.3",
    "passive+mix, best_vs_worst",
    "drts+mix, best_vs_worst",
    "drts+mix, gamma 0.5",
    "drts+mix, M 20",
    "passive+mix, gamma 0.5",
)
# More updates per label: by fewer prompts per round, or by labels that are used again.
_MORE_UPDATES = (
    "passive, 64 a round",
    "passive, replay 1",
    "passive, replay 3",
    "bai_ts, replay 1",
    "random, replay 1",
    f"bai_ts+mix, {RECIPE}, replay 1",
    "passive, 90 a round",
    "passive, 38 a round",
    "passive, 8 a round",
    "bai_ts, replay 3",
    "passive, 32 a round",
    "passive, 16 a round",
    f"bai_ts+mix, {RECIPE}, from 256, 32 a round",
    f"bai_ts+mix, gamma 0.5, {EARLY}, 32 a round",
)
_RPO = ("passive, rpo", f"bai_ts+mix, {RECIPE}, from 256, rpo")
# The policy learns from the ERM's view of all candidates.
_REINFORCE = (
    "bai_ts, reinforce",
    *(f"{name}+mix, gamma 0.5, reinforce" for name in ("bai_ts", "drts", "random")),
    "bai_ts+mix, gamma 0.3, reinforce",
    "random+mix, gamma 0.3, reinforce",
)
# Learning from the ERM after two rounds; then what each part is worth.
_EARLY = (
    f"random+mix, gamma 0.5, {EARLY}",
    f"random+mix, gamma 0.5, {EARLY}, K 1",
    f"bai_ts+mix, gamma 0.5, {EARLY}, extremes 2",
    "bai_ts+mix, gamma 0.5, reinforce, from 256",
    f"bai_ts+mix, {RECIPE}, from 256, weak pull",
    f"bai_ts+mix, {RECIPE}, from 128",
    "bai_ts+mix, gamma 0.3, reinforce, from 128, weak pull",
    f"bai_ts+mix, {RECIPE}, audited",
    "bai_ts+mix, gamma 0.5, reinforce, weak pull, audited",
    *(f"{name}+mix, {RECIPE}, from 32" for name in ("bai_ts", "random")),
    *(f"{name}+mix, gamma 0.5, {EARLY_OF_SMALL_ROUNDS}" for name in ("bai_ts", "random")),
    f"bai_ts+mix, {RECIPE}, replay 1, from 32",
    f"bai_ts+mix, {RECIPE}, replay 1, from 256",
)
_OWN_LABELS = (
    *(f"bai_ts+mix, {RECIPE}, {name}" for name in OWN_LABELS),
    f"bai_ts+mix, {RECIPE}, soft, agree 0.9",
    f"bai_ts+mix, {RECIPE}, soft, audit 0.6",
    f"bai_ts+mix, {RECIPE}, soft, replay 1",
    f"bai_ts+mix, {RECIPE}, soft, finished wins",
    f"bai_ts+mix, {RECIPE}, KL 8",
    "bai_ts+mix, bounds, gamma 0.5",
    "bai_ts+mix, bounds, gamma 0.5, soft",
)
METHODS = tuple(
    dict.fromkeys(
        (
            *_ORDER,
            *(f"{name}+mix" for name in _ACTIVE),
            *_ACTIVE,
            *_VARIED,
            *_MORE_UPDATES,
            *_RPO,
            *_REINFORCE,
            *_EARLY,
            *_OWN_LABELS,
        )
    )
)


def method_keys(method: str, queries: int) -> dict[str, Any]:
    """The configuration keys of a method.

    Args:
        method: A name of :data:`METHODS`.
        queries: The budget, of which the warm-up is a share.
    """
    if method in _OTHERS:
        return _OTHERS[method] | {"gamma": 1.0}
    name, *variants = method.split(", ")
    strategy, mixed, _ = name.partition("+mix")
    keys: dict[str, Any] = {"exploration_strategy": strategy}
    for variant in variants:
        keys |= _VARIANTS[variant]
    mixture = keys.pop("gamma", GAMMA)
    warm_up = keys.pop("warm_up", int(WARM_UP_SHARE * queries))
    if keys.get("loss") == "reinforce":
        keys["loss_config"] = {"min_labels": warm_up, **keys.get("loss_config", {})}
    keys["gamma"] = 1.0
    if mixed:
        keys.setdefault("synthetic_pair", "selected_pair")
        schedule = [[0, 1.0], [warm_up, 1.0], [warm_up + 1, mixture]]
        keys["gamma"] = schedule if warm_up else mixture
    return keys


def control_of(method: str, prompts_per_round: int) -> str | None:
    """Passive with as many updates per label as a method makes after the warm-up, by small rounds.

    Args:
        method: A name of :data:`METHODS`.
        prompts_per_round: Of the tier.

    Returns:
        A name of :data:`METHODS`; None if the tiers have no such control, or the method is it.
    """
    asked = round(_labels_per_update(method, prompts_per_round))
    control = "passive" if asked == prompts_per_round else f"passive, {asked} a round"
    return control if control in METHODS and control != method else None


def replayed_control_of(method: str, prompts_per_round: int) -> str | None:
    """Passive with as many updates per label as a method makes after the warm-up, by replay.

    Args:
        method: A name of :data:`METHODS`.
        prompts_per_round: Of the tier.

    Returns:
        A name of :data:`METHODS`; None if the tiers have no such control, or the method is it.
    """
    replayed = round(prompts_per_round / _labels_per_update(method, prompts_per_round)) - 1
    control = f"passive, replay {replayed}"
    return control if control in METHODS and control != method else None


def _labels_per_update(method: str, prompts_per_round: int) -> float:
    """Labels that a method asks for, after the warm-up, for each update of its policy."""
    keys = method_keys(method, 1000)
    gamma = keys["gamma"]
    if isinstance(gamma, list):
        gamma = gamma[-1][1]
    asked = keys.get("prompts_per_round", prompts_per_round) * gamma
    return asked / (1 + keys.get("policy_replay", 0))
