"""The keys that SEA adds to RLlib's `evaluation()`."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_sea.settings.checks import check_int
from rllib_sea.settings.declaration import checked_elsewhere, key


@dataclass(kw_only=True, eq=False, repr=False)
class Evaluation:
    """What is evaluated, and by what."""

    evaluation_split: str = key(
        "test", "Split of the prompt source, never trained on.", checked_elsewhere
    )
    evaluation_num_prompts: int | None = key(
        None, "How many of its prompts; None: all.", check_int, 1, optional=True
    )
    evaluation_best_of_n: int | None = key(
        None,
        "Also evaluate the best of N sampled responses by the ERM's mean reward; None: do not.",
        check_int,
        2,
        optional=True,
    )
    evaluation_kl_prompts: int = key(
        16,
        "Held-out prompts, the first of them, on which the KL divergence from the reference policy "
        "is estimated; 0: it is not.",
        check_int,
        0,
    )
