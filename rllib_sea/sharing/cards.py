"""Cards: what a repository on the hub says of how its policy or its preferences were made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from rllib_sea.policy.models import BUNDLED_MODEL
from rllib_sea.preference_log.records import IMPORTED, RunRecord
from rllib_sea.preference_log.statistics import LogStatistics
from rllib_sea.report.runs import Run, number
from rllib_sea.report.tables import end_results, version_rows

CARD_FILE = "README.md"
PROJECT = "rllib-sea"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What the bundled model is on the hub, and its license.
_BUNDLED = ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
# The hub's names of sizes, by the number of rows that they end below.
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
_COLUMNS = {
    "prompt": "what was asked",
    "chosen": "the preferred response",
    "rejected": "the other response",
}


def policy_card(
    repo: str, run: Run, labels: LogStatistics, checkpoint: str, config: Mapping[str, Any]
) -> ModelCard:
    """The card of a policy.

    Args:
        repo: The repository's name.
        run: The run, up to the checkpoint.
        labels: What its log held then.
        checkpoint: The checkpoint's name.
        config: The policy's ``config.json``.
    """
    settings = {key: setting.value for key, setting in run.settings.items()}
    base, license_name = _base(settings["policy_model"])
    prompts = settings["env_config"].get("prompts", "tldr_mini")
    data = ModelCardData(
        base_model=base,
        datasets=_as_hub_name(prompts),
        license=license_name,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[PROJECT, "preference-learning", str(settings["loss"])],
    )
    last = run.evaluations[-1] if run.evaluations else {}
    return ModelCard.from_template(
        data,
        template_str=_template("policy"),
        repo=repo,
        base=base or public(settings["policy_model"]),
        has_license=license_name is not None,
        architecture=", ".join(config.get("architectures") or []),
        run=run,
        checkpoint=checkpoint,
        labels=labels,
        choices=_counts(labels.choices),
        raters=_counts(labels.raters),
        judges=" and ".join(labels.oracles),
        settings=settings,
        prompts=public(prompts),
        written=_settings_text(run),
        num_synthetic=_whole(run.last, "num_synthetic_pairs"),
        num_rounds=_whole(run.last, "round"),
        num_steps=_whole(run.last, "policy_steps"),
        evaluated_after=_whole(last, "round"),
        num_held_out=_whole(last, "evaluation/num_prompts"),
        results=[(name, texts[0]) for name, texts in end_results([run])],
        versions=version_rows(run),
        version=metadata.version(PROJECT),
    )


def preferences_card(
    repo: str,
    logged: Sequence[RunRecord],
    labels: LogStatistics,
    run: Run | None,
    num_rows: int,
    data_file: str,
    *,
    all_columns: bool,
) -> DatasetCard:
    """The card of a set of preferences.

    Args:
        repo: The repository's name.
        logged: The runs of the log, its own first.
        labels: What the log holds.
        run: The log's run; None if it is not beside it.
        num_rows: Preferences in the set.
        data_file: Where they are.
        all_columns: Whether they have all columns.
    """
    settings = {} if run is None else {key: of.value for key, of in run.settings.items()}
    prompts = settings.get("env_config", {}).get("prompts", "tldr_mini") if settings else None
    data = DatasetCardData(
        pretty_name=repo.rpartition("/")[2],
        task_categories=["text-generation"],
        size_categories=next((name for end, name in _SIZES if num_rows < end), "n>1T"),
        tags=[PROJECT, "preference", "dpo", "trl"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": data_file}]}],
    )
    skipped = labels.choices["skip"] + labels.choices["both_bad"]
    return DatasetCard.from_template(
        data,
        template_str=_template("preferences"),
        repo=repo,
        num_rows=num_rows,
        base=_base(logged[0].policy_model)[0] or public(logged[0].policy_model),
        chat=logged[0].chat,
        started_from=len(logged) - 1,
        labels=labels,
        choices=_counts(labels.choices),
        raters=_counts(labels.raters),
        oracles=_counts(labels.oracles),
        strategies=_counts(labels.strategies),
        imported=set(labels.strategies) == {IMPORTED},
        left_out={
            "ties": labels.choices["tie"],
            "skips": skipped,
            "open questions": labels.num_open,
            "withdrawn questions": labels.num_withdrawn,
        },
        columns=_COLUMNS,
        all_columns=all_columns,
        prompts=None if prompts is None else public(prompts),
        written="" if run is None else _settings_text(run),
        version=metadata.version(PROJECT),
    )


def public(value: Any) -> Any:
    """A setting as it is passed on: of a path only its last part, which is nobody's home."""
    if isinstance(value, Mapping):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [public(inner) for inner in value]
    if isinstance(value, str) and "\n" not in value and value.startswith(("/", "~", ".")):
        return Path(value).name
    return value


def _settings_text(run: Run) -> str:
    """The settings that are not as by default, as they stand in a recipe."""
    written = {key: public(of.value) for key, of in run.settings.items() if not of.is_default}
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True)


def _base(policy_model: str) -> tuple[str | None, str | None]:
    """A base model's name on the hub and its license, as far as they are known here."""
    if policy_model == BUNDLED_MODEL:
        return _BUNDLED
    card = Path(policy_model, CARD_FILE)
    if not card.is_file():
        return _as_hub_name(policy_model), None
    return None, ModelCard.load(card, ignore_metadata_errors=True).data.license


def _as_hub_name(name: str) -> str | None:
    name = str(name).partition(":")[0]
    is_path = name.startswith((".", "/", "~")) or Path(name).exists()
    return None if is_path or _HUB_NAME.fullmatch(name) is None else name


def _whole(row: Mapping[str, Any], key: str) -> int | None:
    value = number(row, key)
    return None if value is None else int(value)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _template(name: str) -> str:
    file = resources.files("rllib_sea.sharing") / "templates" / f"{name}.md.j2"
    return file.read_text(encoding="utf-8")
