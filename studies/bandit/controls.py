"""With whom a method is compared: passive in its place, and passive with as many updates."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from rllib_sea.policy_update.objectives.reinforce import REINFORCE
from studies.bandit.methods import EARLY, RECIPE, SUITES, TUNED_SUFFIX
from studies.bandit.results import BASELINE
from studies.bandit.settings import Settings

PASSIVE = Settings(BASELINE)
SETTINGS = {name: s for suite in SUITES.values() for name, s in suite.methods.items()}
# What separates the ensemble's share of a saving from that of more updates per label.
CONTROLLED = (
    "passive",
    "passive, 6 a round",
    "passive, replay 4",
    "bai_ts+mix",
    f"bai_ts+mix, {RECIPE}, from 64",
    f"random+mix, gamma 0.2, {EARLY}",
    f"bai_ts+mix, gamma 0.2, {EARLY}",
    f"bai_ts+mix, gamma 0.1, {EARLY}",
)


def labels_per_update(settings: Settings) -> float:
    """Labels that a method asks for, after the warm-up, for each update of its policy.

    Prompts without a duel are not counted, so that a policy which has hardly two responses left
    to a prompt makes more updates than this says.
    """
    return settings.prompts_per_round * settings.gamma / (1 + settings.policy_replay)


def baseline_of(method: str, runs: Container[str]) -> str:
    """Passive under a method's condition if that was run, or else passive.

    Args:
        method: A name of :data:`SETTINGS`.
        runs: Names of what was run.
    """
    found = _passive_like(method)
    return found if found in runs else BASELINE


def control_of(method: str, runs: Container[str]) -> str | None:
    """Passive with as many updates per label as a method, under its condition.

    Passive makes an update for each round's labels: its control has so many prompts per round as
    the method has labels for an update (to the nearest whole number).

    Args:
        method: A name of :data:`SETTINGS`.
        runs: Names of what was run.

    Returns:
        A name of `runs`, the method's own if it is such a control; None if there is none.
    """
    settings = SETTINGS[method]
    if not settings.update_policy:
        return None
    found = _passive_like(method, prompts_per_round=round(labels_per_update(settings)))
    return found if found in runs else None


def replayed_control_of(method: str, runs: Container[str]) -> str | None:
    """Passive with as many updates per label as a method by replay alone, under its condition.

    Args:
        method: A name of :data:`SETTINGS`.
        runs: Names of what was run.

    Returns:
        A name of `runs`, the method's own if it is such a control; None if there is none.
    """
    settings = SETTINGS[method]
    updates_a_round = PASSIVE.prompts_per_round / labels_per_update(settings)
    replayed = round(updates_a_round) - 1
    if replayed == 0 or not settings.update_policy:
        return None
    found = _passive_like(method, policy_replay=replayed)
    return found if found in runs else None


def _passive_like(method: str, **changes: int) -> str | None:
    """The name of passive with a method's learner and oracle, but for what is changed.

    Passive has no ERM for REINFORCE: its learner is DPO. Beside a tuned method it is tuned, too,
    by itself.
    """
    untuned = method.removesuffix(TUNED_SUFFIX)
    settings = SETTINGS[untuned]
    learner = PASSIVE if settings.loss == REINFORCE else settings
    wanted = replace(
        PASSIVE,
        **changes,
        lr=settings.lr,
        loss=learner.loss,
        beta=learner.beta,
        labeller=settings.labeller,
        drift_at=settings.drift_at,
    )
    for name, other in SETTINGS.items():
        if replace(other, best_of_n=None) == wanted:
            return name + method[len(untuned) :]
    return None
