"""What one language-model tier is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path("docs/results")


@dataclass(frozen=True)
class Tier:
    """A policy with its prompts and its known reward, on which methods are compared.

    Attributes:
        name: Of its package, and of its folder in ``docs/results``.
        title: For readers.
        queries: The budget of a run.
        prompts_per_round: Of the methods that do not say another number.
        methods: Names of :data:`studies.language_models.methods.METHODS` that run by default.
        at_once: Runs side by side.
        prepare: Makes what runs need and gives the configuration of a seed, without the method's
            keys: it is called once, before the first run.
        win_rate: Which metric of an evaluation is compared.
        kl: The distance from the start, in nats, at which win rates are compared.
        rates: By why they were chosen, the ``policy_lr`` of some methods, found by
            ``studies.language_models.rates``.
    """

    name: str
    title: str
    queries: int
    prompts_per_round: int
    methods: Sequence[str]
    at_once: int
    prepare: Callable[[], Callable[[int], Mapping[str, Any]]]
    win_rate: str = "win_rate_vs_initial_soft"
    kl: float = 10.0
    rates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """Where its results go."""
        return RESULTS / self.name

    @property
    def command(self) -> str:
        """What runs it."""
        return f"python -m studies.{self.name}"
