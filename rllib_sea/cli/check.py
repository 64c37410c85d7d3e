"""`rllib-sea check`: what a recipe's runs will do, by all checks that come before an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

from rllib_sea import SEAConfig
from rllib_sea.cli.console import TextConsole
from rllib_sea.cli.experiments import Experiment
from rllib_sea.cli.search_space import search_points
from rllib_sea.exploration.mixing import gamma_at
from rllib_sea.policy.models import BUNDLED_MODEL, resolve_model
from rllib_sea.policy.precision import DTYPE_OF_PRECISION, resolve_dtype
from rllib_sea.policy.prompt_sets import PromptSet, PromptSets
from rllib_sea.policy.prompt_split import PromptSplit
from rllib_sea.reward_model.encoder import POLICY_ENCODER
from text_duel.config import oracle_options
from text_duel.model_files import NO_CODE
from text_duel.paths import user_path

_BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
# What a tokenizer and a configuration are in, without the weights.
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
# Variants of a search that are described; all of them are checked.
_SHOWN = 8


def describe(console: TextConsole, experiment: Experiment) -> None:
    """Prints what an experiment will do: its first variant whole, of others what is different.

    Args:
        console: Where to.
        experiment: One that was checked.

    Raises:
        ConfigError: A model or the prompts cannot be used.
    """
    for line in list(_lines(experiment)):
        console.say(line)


def _lines(experiment: Experiment) -> Iterator[str]:
    configs = experiment.configs
    told = "" if len(configs) < 2 else f", {len(configs)} variants checked"
    yield f"{experiment.name}: {experiment.spec['run']}{told}"
    paths = [point.path for point in search_points(experiment.spec["config"])]
    sets: dict[str, PromptSets] = {}
    first: dict[str, str] = {}
    for config in configs[:_SHOWN]:
        rows = dict(_rows(config, sets))
        if paths:
            searched = (f"{'/'.join(map(str, path))}={_value(config, path)}" for path in paths)
            yield f" with {', '.join(searched)}"
        for name, text in rows.items():
            if first.get(name) != text:
                yield f"  {name:<20} {text}"
        first = first or rows
    if configs[_SHOWN:]:
        yield f" and {len(configs) - _SHOWN} more variants"
    if loggers := experiment.spec["loggers"]:
        yield f"  {'loggers':<20} {', '.join(loggers)}"
    yield f"  {'results':<20} {experiment.spec['storage_path']}/{experiment.name}"


def _value(config: SEAConfig, path: Sequence[str | int]) -> Any:
    value = getattr(config, str(path[0]))
    for part in path[1:]:
        value = value[part]
    return value


def _rows(config: SEAConfig, sets: dict[str, PromptSets]) -> Iterator[tuple[str, str]]:
    """What there is to say of a run, each with its name."""
    plan = RunPlan(config, sets)
    prompts, training = plan.prompts, plan.prompts.training
    yield "prompts", f"{len(training)} of {config.env_config.get('prompts', 'the default set')}"
    if notes := (*plan.split.notes, *prompts.left_out):
        yield "to be noted", "; ".join(notes)
    chat = "with" if prompts.tokenizer.chat else "without"
    yield "prompt tokens", f"{_lengths(training)}, {chat} the chat template"
    yield "held-out prompts", f"{len(prompts.held_out)}, tokens {_lengths(prompts.held_out)}"
    yield "rounds", plan.rounds_text
    yield "method", plan.method_text
    oracle = oracle_options(config.env_config)
    options = oracle["config"] or {}
    of_model = f", {_millions(options['model'])}" if oracle["name"] == "reward_model" else ""
    yield "oracle", f"{oracle['name']} {options or ''}".rstrip() + of_model
    yield "policy", f"{config.policy_model}, {plan.num_parameters / 1e6:,.1f} million parameters"
    encoder = config.erm_encoder
    of_model = "" if encoder in ("minilm", POLICY_ENCODER) else f", {_millions(encoder)}"
    end = ", and of a response's end" if config.erm_sees_end else ""
    yield "reward model", f"{config.ensemble_size} members on features of {encoder}{of_model}{end}"
    gib = plan.memory
    parts = ", ".join(f"{name} {value:.1f}" for name, value in gib.items())
    yield (
        "memory, estimated",
        f"{sum(gib.values()):.1f} GiB of all processes: {parts}; without activations, oracle, "
        "encoder and Ray itself",
    )
    yield "takes", f"{config.total_cpus():g} logical CPUs, {config.total_gpus():g} GPUs per trial"


@dataclass(frozen=True)
class RunPlan:
    """What can be said of a run before it starts.

    Attributes:
        config: A configuration that was checked.
        sets: Prompts that were read for other variants, which get this one's.
    """

    config: SEAConfig
    sets: dict[str, PromptSets]

    @cached_property
    def folder(self) -> Path:
        """The policy's folder; of a model on the hub all but its weights."""
        return _small_folder(self.config.policy_model)

    @cached_property
    def prompts(self) -> PromptSets:
        """The prompts, as a run reads them."""
        config = self.config
        arguments: dict[str, Any] = {
            "chat_template": config.chat_template,
            "max_new_tokens": config.max_new_tokens,
            "oracle": oracle_options(config.env_config),
        }
        read = (config.env_config, config.evaluation_split, config.held_out_share)
        key = repr((config.policy_model, arguments, read, config.evaluation_num_prompts))
        if key not in self.sets:
            self.sets[key] = PromptSets(
                self.folder, config.policy_model, prompts=self.split, **arguments
            )
        return self.sets[key]

    @cached_property
    def split(self) -> PromptSplit:
        """What is trained on, and what is held out."""
        return self.config.read_prompts()

    @property
    def rounds_text(self) -> str:
        """Rounds and labels."""
        config, rounds = self.config, self.config.expected_rounds()
        if rounds is None:
            return "without end: query_budget is null; stop criteria may end it"
        share = gamma_at(config.mixture, 0)
        text = f"{rounds} expected, for {config.query_budget} labels of the oracle"
        by_erm = rounds * config.prompts_per_round - (config.query_budget or 0)
        if share < 1.0 or by_erm > config.prompts_per_round:
            text += f"; about {max(0, by_erm)} pairs are labelled by the ERM"
        if config.update_policy:
            text += f"; {rounds * (1 + config.policy_replay)} policy steps"
        return text

    @property
    def method_text(self) -> str:
        """How pairs are chosen, and what is learned from them."""
        config = self.config
        loss = "the policy is not trained"
        if config.update_policy:
            loss = f"{config.loss} (beta {config.beta:g}, lr {config.policy_lr:g})"
        return (
            f"{config.exploration_strategy} over {config.num_candidates} candidates of "
            f"{config.max_new_tokens} tokens for {config.prompts_per_round} prompts per round, "
            f"gamma {config.mixture}; {loss}"
        )

    @cached_property
    def model_config(self) -> Any:
        """The policy's configuration."""
        return transformers.AutoConfig.from_pretrained(self.folder, **NO_CODE)

    @cached_property
    def num_parameters(self) -> int:
        """Of the policy, each once."""
        return _num_parameters(transformers.AutoModelForCausalLM, self.folder)

    @property
    def memory(self) -> dict[str, float]:
        """GiB by part, of all processes: from the number of parameters and the keys."""
        config, count = self.config, self.num_parameters
        training = resolve_dtype(DTYPE_OF_PRECISION[config.train_precision])
        gib: dict[str, float] = {}
        if config.update_policy:
            workers = max(1, config.num_train_workers)
            stage = config.zero_stage if config.train_strategy == "deepspeed" else 0
            # Each worker has a whole copy of what ZeRO does not share out at its stage.
            copies = {part: 1 if stage >= part else workers for part in (1, 2, 3)}
            gib["weights"] = 4 * count * copies[3]
            gib["gradients"] = 4 * count * copies[2]
            gib["optimizer"] = 8 * count * copies[1]
            gib["reference"] = _BYTES[training] * count * workers
        engines = max(1, config.num_env_runners)
        engine = resolve_dtype(config.sampler_config.get("dtype", str(training).split(".")[-1]))
        gib["engines"] = _BYTES[engine] * count * engines
        gib["KV cache"] = self._kv_cache_bytes(_BYTES[engine]) * engines
        return {name: value / 2**30 for name, value in gib.items()}

    def _kv_cache_bytes(self, size: int) -> float:
        """Of one engine."""
        config, options = self.config, self.config.sampler_config
        if config.sampler == "vllm" and not config.num_gpus_per_env_runner:
            return options.get("kv_cache_gib", 0.5) * 2**30
        text = self.model_config.get_text_config()
        heads = text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
        kv_heads = getattr(text, "num_key_value_heads", None) or heads
        per_token = 2 * text.num_hidden_layers * kv_heads * width * size
        sequences = config.prompts_per_round * config.num_candidates
        at_once = options.get("batch_size", 16) if config.sampler == "transformers" else 256
        return per_token * self.prompts.max_model_len * min(sequences, at_once)


def _lengths(prompts: PromptSet) -> str:
    lengths = prompts.lengths()
    return f"median {median(lengths):g}, longest {max(lengths)}"


def _millions(model: str) -> str:
    count = _num_parameters(transformers.AutoModel, _small_folder(model))
    return f"{count / 1e6:,.1f} million parameters"


def _small_folder(model: str) -> Path:
    """A model's folder; of one on the hub all but its weights."""
    if model == BUNDLED_MODEL or (user_path(model, "model") / "config.json").is_file():
        return resolve_model(model)
    import huggingface_hub

    return Path(huggingface_hub.snapshot_download(model, allow_patterns=_SMALL_FILES))


def _num_parameters(kind: Any, folder: Path) -> int:
    """Of a model that is made without weights."""
    with torch.device("meta"):
        made = kind.from_config(transformers.AutoConfig.from_pretrained(folder, **NO_CODE))
    return made.num_parameters()
