"""Which prompts are trained on, and which are held out: no text is both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rllib_sea.policy.prompt_identity import is_in_share
from text_duel.config import EVALUATION_PROMPTS, validate_env_config
from text_duel.errors import ConfigError
from text_duel.prompts import Prompt, prompt_options
from text_duel.sources import has_one_split

# Held out if nothing is said and the source has one split only.
DEFAULT_SHARE = 0.1
DEFAULT_SPLIT = "test"
# Duplicates are told of if they are more than this share of the training prompts.
MANY_DUPLICATES = 0.01


@dataclass(frozen=True, slots=True)
class PromptSplit:
    """A run's prompts, whether they fit its model or not.

    Attributes:
        training: Those that are trained on, at least one.
        held_out: Those that are evaluated on, at least one; none of their texts is trained on.
        notes: What the user should know of how they were chosen, a line each.
    """

    training: Sequence[Prompt]
    held_out: Sequence[Prompt]
    notes: tuple[str, ...]


def read_prompts(
    env_config: Mapping[str, Any],
    *,
    split: str | None,
    share: float | None,
    num_held_out: int | None,
) -> PromptSplit:
    """Reads a run's prompts.

    Args:
        env_config: The environment's configuration.
            With `evaluation_prompts` another source is held out.
        split: The split of the source that is held out (`evaluation_split`).
        share: The share of the training prompts that is held out in its place, by their texts
            (`held_out_share`). With neither, it is the split ``test``, or a tenth of the prompts if
            the source has one split only.
        num_held_out: So many of the held-out prompts are evaluated on, the first; None: all.

    Raises:
        ConfigError: They cannot be read, or nothing would be trained on, or nothing held out.
    """
    everything = validate_env_config(env_config)
    source = prompt_options(env_config)["source"]
    other = env_config.get(EVALUATION_PROMPTS)
    one_split = other is None and has_one_split(source)
    if other is not None:
        _check_other(other, share)
    elif split is not None:
        _check_split(split, share, one_split, source, env_config)
    notes = []
    if share is not None or (split is None and one_split):
        chosen = DEFAULT_SHARE if share is None else share
        held_out = [prompt for prompt in everything if is_in_share(prompt.text, chosen)]
        training = [prompt for prompt in everything if not is_in_share(prompt.text, chosen)]
        if not held_out or not training:
            raise ConfigError(
                f"held_out_share: {chosen:g} of the {len(everything)} prompts of {source!r}, by "
                f"their texts, is {'none' if not held_out else 'all'} of them: set a "
                f"{'larger' if not held_out else 'smaller'} share"
            )
        reason = "" if share is not None else "it has one split only, and nothing was said; "
        used = "" if num_held_out is None else f", {min(num_held_out, len(held_out))} evaluated on"
        notes.append(
            f"prompts: {len(held_out)} of the {len(everything)} of {source} are held out{used}, "
            f"the others trained on ({reason}held_out_share: {chosen:g})"
        )
        held_out = held_out[:num_held_out]
    else:
        held_out = _of_split(env_config, split, num_held_out)
        texts = {prompt.text for prompt in held_out}
        training = [prompt for prompt in everything if prompt.text not in texts]
        num_left_out = len(everything) - len(training)
        if not training:
            raise ConfigError(
                f"{'evaluation_split' if other is None else EVALUATION_PROMPTS}: all "
                f"{num_left_out} training prompts of {source!r} are held-out prompts, too: hold "
                "out others, or a share of them (held_out_share: 0.1)"
            )
        if num_left_out:
            notes.append(
                f"prompts: {num_left_out} of the {len(everything)} training prompts of {source} "
                "are not trained on: their texts are held out, too"
            )
    unread = [prompt.unread for prompt in everything if prompt.unread]
    if unread:
        keys = ", ".join(sorted(set().union(*unread)))
        notes.append(
            f"prompts: {len(unread)} of the {len(everything)} of {source} have messages with more "
            f"than role and content, which is not read: {keys}"
        )
    num_duplicates = len(training) - len({prompt.text for prompt in training})
    if num_duplicates > MANY_DUPLICATES * len(training):
        notes.append(
            f"prompts: {num_duplicates} of the {len(training)} training prompts of {source} say "
            "the same as another one: they are asked about as often as they stand there"
        )
    return PromptSplit(training, held_out, tuple(notes))


def _check_other(other: Any, share: float | None) -> None:
    if not isinstance(other, str):
        raise ConfigError(f"{EVALUATION_PROMPTS}: {other!r} is not text")
    if share is not None:
        raise ConfigError(
            f"{EVALUATION_PROMPTS}, held_out_share: {other!r} and {share:g} both say what is held "
            "out: leave one of them out"
        )


def _check_split(
    split: str, share: float | None, one_split: bool, source: str, env_config: Mapping[str, Any]
) -> None:
    if share is not None:
        raise ConfigError(
            f"evaluation_split, held_out_share: {split!r} and {share:g} both say what is held out: "
            "leave one of them out"
        )
    if one_split:
        raise ConfigError(
            f"evaluation_split: {source!r} has one split only, which is trained on: hold out a "
            "share of it (held_out_share: 0.1), or give a folder with one .jsonl per split"
        )
    if split == env_config.get("split", "train"):
        raise ConfigError(
            f"evaluation_split: {split!r} is the split that is trained on: hold out another one, "
            "or a share of it (held_out_share: 0.1)"
        )


def _of_split(
    env_config: Mapping[str, Any], split: str | None, num_held_out: int | None
) -> list[Prompt]:
    """The prompts that are held out: a split of the same source, or of another one."""
    wanted = {**env_config, "split": split or DEFAULT_SPLIT, "limit": num_held_out}
    other = wanted.pop(EVALUATION_PROMPTS, None)
    if other is not None:
        wanted["prompts"] = other
    try:
        return validate_env_config(wanted)
    except ConfigError as error:
        hint = "" if other is None else f" (of {EVALUATION_PROMPTS}: {other!r})"
        if split is None and other is None:
            hint = (
                f" (of the held-out prompts: evaluation_split is {DEFAULT_SPLIT!r} unless it is "
                "set; held_out_share: 0.1 holds out a tenth of the training prompts instead)"
            )
        raise ConfigError(f"{error}{hint}") from error
