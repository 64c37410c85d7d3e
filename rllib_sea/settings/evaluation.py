"""The keys that SEA adds to RLlib's `evaluation()`."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_sea.settings.checks import check_int, check_number
from rllib_sea.settings.declaration import checked_elsewhere, key


@dataclass(kw_only=True, eq=False, repr=False)
class Evaluation:
    """What is evaluated, and by what."""

    evaluation_split: str | None = key(
        None,
        "Split of the prompt source that is held out, never trained on; None: `test`, or "
        "`held_out_share`.",
        checked_elsewhere,
    )
    held_out_share: float | None = key(
        None,
        "Share of the training prompts that is held out in its place. Which they are depends on "
        "each one's text alone: rows that are added move no other. None: 0.1 if the source has one "
        "split only.",
        check_number,
        0.0,
        1.0,
        open_low=True,
        optional=True,
    )
    evaluation_num_prompts: int | None = key(
        None,
        "How many of the held-out prompts are evaluated on, the first; None: all.",
        check_int,
        1,
        optional=True,
    )
    evaluation_best_of_n: int | None = key(
        None,
        "Also evaluate the best of N sampled responses by the ERM's mean reward; None: do not.",
        check_int,
        2,
        optional=True,
    )
    evaluation_samples: int = key(
        0,
        "Also compare so many sampled responses per held-out prompt, each with one that the "
        "initial policy sampled with the same random numbers: a win rate with a narrower interval, "
        "of what the policy samples and not of its greedy responses. 0: do not.",
        check_int,
        0,
    )
    evaluation_kl_prompts: int = key(
        16,
        "Held-out prompts, the first of them, on which the KL divergence from the reference policy "
        "is estimated, and the perplexity of their references; 0: neither is.",
        check_int,
        0,
    )
    evaluation_questions: int = key(
        0,
        "With the oracle `people`: on how many held-out prompts, the first, they say at the run's "
        "end which is better, the policy's response or the initial policy's, without knowing which "
        "is which; counted apart from the budget, never learned from.",
        check_int,
        0,
    )
    stop_when_gain_below: float | None = key(
        None,
        "The run ends as soon as the next tenth of the labels so far is expected, by the ERM "
        "alone, to add less than this to the win rate over the initial policy, at the upper end "
        "of the 95% interval, and the policy is ahead for sure: docs/reward_model.md#when-to-stop. "
        "None: it does not.",
        check_number,
        0.0,
        0.5,
        open_low=True,
        optional=True,
    )
