"""What is compared: every method's settings, in suites of runs that belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from studies.bandit.environment import Labeller
from studies.bandit.reward_model import RewardModelOptions
from studies.bandit.settings import Settings

GAMMA = 0.7
# How the recipes mix: the drawn member's best response against its worst, for half of the pairs.
RECIPE = "best_vs_worst, gamma 0.5"
# REINFORCE on the ERM after 64 labels, an ERM that is hardly pulled towards its start.
EARLY = "reinforce, from 64, weak pull"
STRATEGY_NAMES = (
    "passive",
    "random",
    "bai_ts",
    "ee_ts",
    "uncertainty",
    "infomax",
    "drts",
    "delta_ucb",
    "maxmin_lcb",
)
BEST_OF_N = 8


@dataclass(frozen=True)
class Suite:
    """Methods that are run with the same seeds.

    Attributes:
        methods: Settings by name.
        seeds: How many seeds if nothing else is asked for.
    """

    methods: dict[str, Settings]
    seeds: int


def _mixed(strategy: str, **changes: Any) -> Settings:
    return replace(Settings(strategy, gamma=GAMMA), **changes)


def _recipe(strategy: str, **changes: Any) -> Settings:
    """The settings that :data:`RECIPE` names."""
    return _mixed(strategy, gamma=0.5, synthetic_pair="best_vs_worst", **changes)


def _main() -> dict[str, Settings]:
    """Every strategy without and with mixing, the recipes' mixing, methods that have no ERM."""
    methods = {name: Settings(name) for name in STRATEGY_NAMES}
    methods |= {f"{name}+mix": _mixed(name) for name in STRATEGY_NAMES}
    for name in ("bai_ts", "random", "drts"):
        methods[f"{name}+mix, {RECIPE}"] = _recipe(name)
    # The seven variants of SEA's ablation: 4 to 6 are 1 to 3 with the best of N at test time.
    for name in ("passive", "bai_ts", "bai_ts+mix"):
        methods[name] = replace(methods[name], best_of_n=BEST_OF_N)
    methods |= _more_updates()
    methods["reward_model_only"] = Settings("bai_ts", update_policy=False, best_of_n=BEST_OF_N)
    methods["offline"] = Settings("passive", sync_interval=None)
    methods["iterative"] = Settings("passive", sync_interval=4)
    methods["apl"] = Settings("apl")
    methods["xpo"] = Settings("xpo", optimism="xpo", optimism_alpha=1e-5)
    methods["selm"] = Settings("xpo", optimism="selm", optimism_alpha=1e-3)
    return methods


def _more_updates() -> dict[str, Settings]:
    """More policy updates per label: fewer prompts per round, or the oracle's pairs again."""
    methods = {
        f"passive, {prompts} a round": Settings("passive", prompts_per_round=prompts)
        for prompts in (22, 16, 8, 6, 4, 3)
    }
    replays = (1, 3, 4, 7, 9)
    methods |= {f"passive, replay {n}": Settings("passive", policy_replay=n) for n in replays}
    methods |= {
        f"{name}, replay 3": Settings(name, policy_replay=3)
        for name in ("random", "bai_ts", "drts")
    }
    for name, replayed in (("bai_ts", 1), ("bai_ts", 3), ("random", 1)):
        methods[f"{name}+mix, {RECIPE}, replay {replayed}"] = _recipe(name, policy_replay=replayed)
    return methods


# What is said of own labels, by its name: each alone, then together.
OWN_LABELS: dict[str, dict[str, Any]] = {
    "soft": {"synthetic_labels": "soft"},
    "agree 0.9": {"synthetic_agreement": 0.9},
    "audit 0.6": {"audit_threshold": 0.6},
    "audit 0.6 on 5%": {"audit_threshold": 0.6, "audit_share": 0.05, "audit_window": 64},
}


def _own_labels() -> dict[str, Settings]:
    """The recipe with own labels that are softer, surer or audited; with replay beside them."""
    base = f"bai_ts+mix, {RECIPE}"
    methods = {
        f"{base}, {name}": _recipe("bai_ts", **changes) for name, changes in OWN_LABELS.items()
    }
    methods[f"{base}, KL 3"] = _recipe("bai_ts", kl_target=3.0)
    for limit in (3.0, 4.0):
        methods[f"{base}, mixed to KL {limit:g}"] = _recipe("bai_ts", mixing_kl_limit=limit)
    soft = OWN_LABELS["soft"]
    methods[f"{base}, soft, agree 0.9"] = _recipe("bai_ts", **soft, **OWN_LABELS["agree 0.9"])
    methods[f"{base}, soft, audit 0.6"] = _recipe("bai_ts", **soft, **OWN_LABELS["audit 0.6"])
    methods[f"{base}, soft, replay 1"] = _recipe("bai_ts", **soft, policy_replay=1)
    bounds = _mixed("bai_ts", gamma=0.5, synthetic_pair="bounds")
    methods["bai_ts+mix, bounds, gamma 0.5"] = bounds
    methods["bai_ts+mix, bounds, gamma 0.5, soft"] = replace(bounds, **soft)
    methods["bai_ts+mix, best_vs_worst, gamma 0.3, soft"] = replace(
        _recipe("bai_ts", **soft), gamma=0.3
    )
    return methods


def _early() -> dict[str, Settings]:
    """The policy learns from the ERM after two rounds, not after a tenth of the labels.

    First the methods, and as they are with random pairs; then what each part of the last is worth.
    """
    methods = {
        f"{name}+mix, {RECIPE}, from 64": _recipe(name, warm_up=64) for name in ("bai_ts", "random")
    }
    # The oracle's labels used again beside the ERM's.
    for replayed in (1, 3):
        methods[f"bai_ts+mix, {RECIPE}, replay {replayed}, from 64"] = _recipe(
            "bai_ts", policy_replay=replayed, warm_up=64
        )
    for gamma in (0.5, 0.2, 0.1):
        for name in ("bai_ts", "random"):
            methods[f"{name}+mix, gamma {gamma:g}, {EARLY}"] = _reinforce(name, gamma)
    for name in ("drts", "infomax", "uncertainty"):
        methods[f"{name}+mix, gamma 0.1, {EARLY}"] = _reinforce(name, 0.1)
    best = _reinforce("bai_ts", 0.1)
    methods["bai_ts+mix, gamma 0.1, reinforce, weak pull"] = replace(best, warm_up=320)
    methods["bai_ts+mix, gamma 0.1, reinforce, from 64"] = replace(
        best, reward_model=RewardModelOptions()
    )
    methods["bai_ts+mix, gamma 0.1, reinforce, weak pull, audit 0.5 on 20%"] = replace(
        best,
        warm_up=0,
        audit_threshold=0.5,
        audit_share=0.2,
        audit_window=64,
        synthetic_pair="best_vs_worst",
    )
    for flip in (0.1, 0.3):
        for name, settings in _fewest().items():
            methods[f"{name}, flip {flip}"] = replace(settings, labeller=Labeller(flip=flip))
    # A stronger pull on the ERM, which then learns less of what is wrong.
    methods["bai_ts+mix, gamma 0.5, reinforce, from 64, flip 0.3"] = replace(
        best, gamma=0.5, reward_model=RewardModelOptions(), labeller=Labeller(flip=0.3)
    )
    return methods


def _reinforce(strategy: str, gamma: float) -> Settings:
    """The policy learns by REINFORCE on the ERM, which is hardly pulled back, after two rounds."""
    weak = RewardModelOptions(lam=_lambda_between())
    return _mixed(strategy, gamma=gamma, loss="reinforce", beta=0.02, warm_up=64, reward_model=weak)


def _fewest() -> dict[str, Settings]:
    """What needs the fewest labels of a good labeller: is it ahead with another one, too?"""
    methods = {
        "passive, replay 7": Settings("passive", policy_replay=7),
        f"bai_ts+mix, {RECIPE}, from 64": _recipe("bai_ts", warm_up=64),
    }
    for gamma in (0.5, 0.2, 0.1):
        methods[f"bai_ts+mix, gamma {gamma:g}, {EARLY}"] = _reinforce("bai_ts", gamma)
    return methods


def _mixing() -> dict[str, Settings]:
    """What makes mixing work: which pair, and how much."""
    methods = {}
    for name in ("bai_ts", "drts", "random", "passive"):
        methods[f"{name}+mix, best_vs_worst"] = _mixed(name, synthetic_pair="best_vs_worst")
    for gamma in (0.85, 0.5, 0.3):
        methods[f"bai_ts+mix, gamma {gamma}"] = _mixed("bai_ts", gamma=gamma)
    methods["bai_ts+mix, logit variance"] = _mixed("bai_ts", options={"variance": "logit"})
    return methods


def _learning_rate() -> dict[str, Settings]:
    methods = {}
    for lr in (1e-3, 3e-3, 5e-3):
        methods[f"passive, lr {lr:g}"] = Settings("passive", lr=lr)
        methods[f"bai_ts+mix, lr {lr:g}"] = _mixed("bai_ts", lr=lr)
        methods[f"drts+mix, lr {lr:g}"] = _mixed("drts", lr=lr)
    return methods


def _losses() -> dict[str, Settings]:
    """IPO and SLiC with SEA's beta; IPO also with a smaller one, as SEA's stops it at h = 2.5."""
    methods = {}
    for suffix, loss, beta in (
        ("ipo", "ipo", 0.2),
        ("ipo beta 0.05", "ipo", 0.05),
        ("slic", "slic", 0.2),
    ):
        methods[f"passive, {suffix}"] = Settings("passive", loss=loss, beta=beta)
        methods[f"bai_ts+mix, {suffix}"] = _mixed("bai_ts", loss=loss, beta=beta)
    return methods


def _noise() -> dict[str, Settings]:
    methods = {}
    for flip in (0.1, 0.2, 0.3):
        labeller = Labeller(flip=flip)
        methods[f"passive, flip {flip}"] = Settings("passive", labeller=labeller)
        methods[f"bai_ts+mix, flip {flip}"] = _mixed("bai_ts", labeller=labeller)
        methods[f"drts+mix, flip {flip}"] = _mixed("drts", labeller=labeller)
        # Is a reward model that learns from noise still good enough for half of the pairs?
        methods[f"bai_ts+mix, {RECIPE}, flip {flip}"] = _recipe("bai_ts", labeller=labeller)
    for flip in (0.1, 0.3):
        passive = Settings("passive", labeller=Labeller(flip=flip))
        methods[f"passive, 16 a round, flip {flip}"] = replace(passive, prompts_per_round=16)
        methods[f"passive, replay 3, flip {flip}"] = replace(passive, policy_replay=3)
    exact = Labeller(deterministic=True)
    methods["passive, deterministic"] = Settings("passive", labeller=exact)
    methods["bai_ts+mix, deterministic"] = _mixed("bai_ts", labeller=exact)
    methods["drts+mix, deterministic"] = _mixed("drts", labeller=exact)
    # Of two responses of the initial policy it prefers the better one in 59% of the pairs, not 74%.
    weak = Labeller(sharpness=0.3)
    for name, settings in ({"passive": Settings("passive")} | _fewest()).items():
        methods[f"{name}, weak labeller"] = replace(settings, labeller=weak)
    return methods


def _drift() -> dict[str, Settings]:
    methods = {
        "passive": Settings("passive"),
        "bai_ts+mix": _mixed("bai_ts"),
        "ee_ts+mix": _mixed("ee_ts"),
        "drts+mix": _mixed("drts"),
        **_fewest(),
    }
    return {
        f"{name}, drift": replace(settings, drift_at=1600) for name, settings in methods.items()
    }


def _lambda_of_the_mean() -> float:
    """SEA's 0.5 with a mean over a member's parameters, as its authors' code has it."""
    return 0.5 / RewardModelOptions().parameters_of_a_member()


def _lambda_between() -> float:
    """Half-way between, on a logarithmic scale, 0.5 with a sum and 0.5 with a mean."""
    return math.sqrt(0.5 * _lambda_of_the_mean())


def _reward_model() -> dict[str, Settings]:
    """SEA with other ERMs; its own is lambda 0.5, fading, times the sum over parameters."""
    mean, between = _lambda_of_the_mean(), _lambda_between()
    options = {
        "lambda 0.5 fixed": RewardModelOptions(lam=0.5, lambda_fades=False),
        "lambda between": RewardModelOptions(lam=between),
        "lambda between fixed": RewardModelOptions(lam=between, lambda_fades=False),
        "lambda of the mean": RewardModelOptions(lam=mean),
        "lambda of the mean fixed": RewardModelOptions(lam=mean, lambda_fades=False),
        "lambda 0": RewardModelOptions(lam=0.0),
        "prior 1": RewardModelOptions(prior_scale=1.0),
        "bootstrap 0.5": RewardModelOptions(bootstrap=0.5),
        "prior 1, lambda between": RewardModelOptions(prior_scale=1.0, lam=between),
    }
    return {f"bai_ts+mix, {name}": _mixed("bai_ts", reward_model=o) for name, o in options.items()}


def _combined() -> dict[str, Settings]:
    """What the sweeps above suggest (seeds 0 to 2): more mixing and a weak lambda."""
    weak = RewardModelOptions(lam=_lambda_between())
    methods = {
        f"{name}+mix, gamma 0.5": _mixed(name, gamma=0.5) for name in ("passive", "random", "drts")
    }
    methods["drts+mix, gamma 0.3"] = _mixed("drts", gamma=0.3)
    methods["drts+mix, lambda between"] = _mixed("drts", reward_model=weak)
    for name in ("bai_ts", "drts", "delta_ucb"):
        methods[f"{name}+mix, lambda between, gamma 0.5"] = _mixed(
            name, gamma=0.5, reward_model=weak
        )
    return methods


# What is compared at its own beta and learning rate, too: the best of `studies.bandit.rates`.
BEST_RATES: dict[str, tuple[float, float]] = {
    "passive": (0.1, 4e-2),
    "passive, 16 a round": (0.1, 2e-2),
    "passive, 6 a round": (0.02, 1e-2),
    "passive, 3 a round": (0.02, 1e-2),
    "passive, replay 1": (0.02, 2e-2),
    "passive, replay 3": (0.1, 1e-2),
    "passive, replay 4": (0.1, 2e-2),
    "passive, replay 9": (0.1, 5e-3),
    "random, replay 3": (0.1, 2e-2),
    "bai_ts, replay 3": (0.1, 2e-2),
    "drts, replay 3": (0.1, 1e-2),
    "bai_ts": (0.1, 2e-2),
    "bai_ts+mix": (0.1, 2e-2),
    f"bai_ts+mix, {RECIPE}, from 64": (0.1, 2e-2),
    f"random+mix, {RECIPE}, from 64": (0.02, 2e-2),
    f"bai_ts+mix, gamma 0.5, {EARLY}": (0.02, 2e-2),
    f"bai_ts+mix, gamma 0.2, {EARLY}": (0.02, 5e-3),
    f"bai_ts+mix, gamma 0.1, {EARLY}": (0.02, 2e-3),
}
TUNED_SUFFIX = ", tuned"


def _tuned() -> dict[str, Settings]:
    """Methods and their controls, each at the beta and rate that suit it best."""
    known = _main() | _early()
    return {
        f"{name}{TUNED_SUFFIX}": replace(known[name], lr=lr, beta=beta, best_of_n=None)
        for name, (beta, lr) in BEST_RATES.items()
    }


FEWEST = tuple(_fewest())
SUITES: dict[str, Suite] = {
    "main": Suite(_main(), 20),
    "reward_model": Suite(_reward_model(), 5),
    "mixing": Suite(_mixing(), 5),
    "own_labels": Suite(_own_labels(), 20),
    "early": Suite(_early(), 20),
    "tuned": Suite(_tuned(), 20),
    "learning_rate": Suite(_learning_rate(), 5),
    "losses": Suite(_losses(), 5),
    "noise": Suite(_noise(), 5),
    "drift": Suite(_drift(), 5),
    "combined": Suite(_combined(), 5),
}
