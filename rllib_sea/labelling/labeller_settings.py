"""What a labeller is made from, and whom it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_sea.preference_log.records import RunRecord
from rllib_sea.settings.labelling import Labelling


@dataclass(frozen=True, slots=True)
class LabellerSettings:
    """What a labeller is made from.

    Attributes:
        log: The preference log's file.
        run: The run that it belongs to.
        env_config: Of the environment: its oracle and label rule.
        keys: How long the oracle is waited for, and what becomes of late answers.
        num_threads: Of torch, if the oracle uses it; None: as torch has it.
        query_budget: How many labels the run asks for, to be shown; None: nobody said.
        evaluates: Whether questions of an evaluation come after them.
    """

    log: Path
    run: RunRecord
    env_config: Mapping[str, Any]
    keys: Labelling = field(default_factory=Labelling)
    num_threads: int | None = None
    query_budget: int | None = None
    evaluates: bool = False


@dataclass(frozen=True, slots=True)
class OracleIdentity:
    """Who is asked.

    Attributes:
        name: :attr:`text_duel.Oracle.name`.
        has_scores: Whether it gives scores.
        asks_people: Whether it is people, who are asked on a page.
    """

    name: str
    has_scores: bool
    asks_people: bool = False
