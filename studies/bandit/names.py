"""One name and one colour for each method, in every picture."""

from __future__ import annotations

import re

from rllib_sea.policy_update.objectives.reinforce import REINFORCE
from studies.bandit.methods import RECIPE, STRATEGY_NAMES

_LABELS = {
    "passive": "passive (online DPO)",
    "random": "random",
    "bai_ts": "BAI-TS",
    "ee_ts": "E&E-TS",
    "uncertainty": "uncertainty",
    "infomax": "infomax",
    "drts": "DRTS",
    "delta_ucb": "DeltaUCB",
    "maxmin_lcb": "MaxMinLCB",
    "offline": "offline DPO",
    "iterative": "iterative DPO",
    "apl": "APL",
    "xpo": "XPO",
    "selm": "SELM",
    "reward_model_only": "reward model only",
}
_COLORS = {
    "passive": "#444444",
    "random": "#a0722a",
    "bai_ts": "#c0392b",
    "ee_ts": "#1f6fb4",
    "uncertainty": "#8e44ad",
    "infomax": "#17a2a2",
    "drts": "#2e8b3d",
    "delta_ucb": "#e67e22",
    "maxmin_lcb": "#d6559b",
    "offline": "#9a9a9a",
    "iterative": "#777777",
    "apl": "#5c6bc0",
    "xpo": "#7a8f00",
    "selm": "#b8860b",
    "reward_model_only": "#000000",
}
MIXED = "+mix"
BEST_VS_WORST = "best_vs_worst"
REPLAY = ", replay "
A_ROUND = " a round"
# Its colours by the strategy; other strategies have their own.
_REINFORCE_COLORS = {"bai_ts": "#2f7fc1", "random": "#7fb8e6"}
# The name of what the policy learns early from the ERM's view of all candidates.
_EARLY = re.compile(r"\+mix, gamma ([\d.]+), reinforce, from \d+, weak pull")


def label(method: str) -> str:
    """A method's name in pictures and tables."""
    if method == "bai_ts+mix":
        return "SEA (BAI-TS + mixing)"
    if method.startswith("passive, "):
        return method
    method = _EARLY.sub(r", REINFORCE (gamma \1)", method)
    strategy, plus, rest = method.partition(MIXED)
    base, comma, more = strategy.partition(",")
    rest = rest.replace(f", {RECIPE}", " (recipe)")
    return _LABELS.get(base, base) + (" + mixing" if plus else "") + comma + more + rest


def color(method: str) -> str:
    """A strategy's colour, with or without mixing; darker if the policy replays pairs.

    REINFORCE has colours of its own, the darker the smaller gamma.
    """
    strategy = method.partition(MIXED)[0].partition(",")[0]
    shade = _COLORS[strategy]
    if REINFORCE in method:
        shade = _REINFORCE_COLORS.get(strategy, shade)
        if "gamma 0.1" in method:
            return dark(dark(shade))
        return dark(shade) if "gamma 0.2" in method else shade
    return dark(shade) if REPLAY in method else shade


def line_style(method: str) -> str:
    """Dotted if the ERM labels its best and worst response, dashed without mixing.

    With more updates per label by fewer prompts per round, or by replay alone, dashes and dots.
    """
    if BEST_VS_WORST in method:
        return ":"
    if REPLAY in method or A_ROUND in method:
        return "-."
    without_mixing = method in STRATEGY_NAMES and method != "passive"
    return "--" if without_mixing or method == "offline" else "-"


def dark(shade: str) -> str:
    """A colour half-way to black."""
    return _half_way(shade, 0)


def pale(shade: str) -> str:
    """A colour half-way to white."""
    return _half_way(shade, 255)


def _half_way(shade: str, end: int) -> str:
    parts = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{(part + end) // 2:02x}" for part in parts)
