"""The keys of `SEAConfig.labelling()`."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_sea.settings.checks import check_bool, check_int, check_number
from rllib_sea.settings.declaration import key


@dataclass(kw_only=True, eq=False, repr=False)
class Labelling:
    """Sets how long the oracle is waited for, and what becomes of late answers."""

    oracle_retries: int = key(
        5, "How often the oracle is asked again if it cannot answer.", check_int, 0
    )
    oracle_retry_wait_s: float = key(
        10.0,
        "Seconds before the first time; they double from time to time (5 times: 5 minutes in all).",
        check_number,
    )
    oracle_timeout_s: float = key(
        600.0,
        "Seconds after which a silent oracle counts as one that cannot answer.",
        check_number,
        open_low=True,
    )
    oracle_concurrency: int = key(
        32, "Questions that an asynchronous oracle has at once.", check_int, 1
    )
    wait_for: float = key(
        1.0,
        "The share of a round's questions after whose answers the round learns; later answers are "
        "learned from in the rounds that they come in.",
        check_number,
        0.0,
        1.0,
        open_low=True,
    )
    label_deadline_s: float | None = key(
        None,
        "Seconds after which a round learns from what is there; None: no deadline.",
        check_number,
        open_low=True,
        optional=True,
    )
    ask_ahead: bool = key(
        False,
        "A round learns from the answers to the questions of the round before: people, or a slow "
        "oracle, answer its own while the policy is updated and the next are sampled.",
        check_bool,
    )
    withdraw_after: int | None = key(
        None,
        "Rounds after which an open question is withdrawn, and counts no more; None: never.",
        check_int,
        1,
        optional=True,
    )
    num_gpus_for_labeller: float = key(
        0, "GPUs of the labeller, for an oracle that is a model.", check_number
    )
