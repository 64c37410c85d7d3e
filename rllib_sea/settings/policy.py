"""The keys of `SEAConfig.policy()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rllib_sea.settings.checks import check_bool, check_int, check_number
from rllib_sea.settings.declaration import checked_elsewhere, key


@dataclass(kw_only=True, eq=False, repr=False)
class Policy:
    """Sets the language model and how it is sampled."""

    policy_model: str = key(
        "smollm2-135m-instruct",
        "A local folder, a name on the Hugging Face hub, or the bundled model.",
        checked_elsewhere,
    )
    sampler: str = key(
        "vllm", "`vllm`, or `transformers` (no engine to install; slower).", checked_elsewhere
    )
    sampler_config: dict[str, Any] = key(
        {},
        "Options of the sampler's engine. Its `dtype` is what training computes in "
        "(`train_precision`) unless it is given here.",
        checked_elsewhere,
    )
    chat_template: bool | None = key(
        None,
        "Whether prompts are wrapped in the model's chat template; None: if the model has one.",
        check_bool,
        optional=True,
    )
    max_new_tokens: int = key(
        53, "Longest response in tokens, the end token included.", check_int, 1
    )
    temperature: float = key(
        0.7,
        "Of training responses; evaluations decode greedily.",
        check_number,
        0.0,
        open_low=True,
    )
    top_p: float = key(
        1.0, "Nucleus mass of training responses.", check_number, 0.0, 1.0, open_low=True
    )
