"""Data sets of the Hugging Face hub, or in its local cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text_duel.errors import ConfigError, one_line

HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the Hugging Face hub, or in its local cache.

    Attributes:
        name: ``owner/name``.
        configuration: The data set's configuration (subset), if it has several.
        split: The split.
    """

    name: str
    configuration: str | None
    split: str

    @property
    def description(self) -> str:
        """Name, configuration and split."""
        configuration = f", configuration {self.configuration}" if self.configuration else ""
        return f"{self.name} (split {self.split}{configuration})"

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields (``name (split s), row n`` from 1; columns)."""
        import datasets
        import huggingface_hub.constants

        try:
            rows = datasets.load_dataset(self.name, self.configuration, split=self.split)
        # What `datasets` raises: a missing set or network is an OSError; an unknown split or
        # configuration a ValueError; a set that needs code of its own a RuntimeError.
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise ConfigError(
                f"prompts: cannot load the data set {self.description}: {one_line(error)} (no "
                f"path {Path(self.name).absolute()}; looked in the cache "
                f"{datasets.config.HF_DATASETS_CACHE} and at "
                f"{huggingface_hub.constants.ENDPOINT})"
            ) from error
        for number, row in enumerate(rows, start=1):
            yield f"{self.description}, row {number}", row


def splits_on_hub(name: str, configuration: str | None) -> list[str]:
    """The splits of a data set of the hub; none if that cannot be found out.

    Args:
        name: ``owner/name``.
        configuration: The data set's configuration, if it has several.
    """
    import datasets

    try:
        return datasets.get_dataset_split_names(name, configuration)
    # What is wrong is said where the data set is read.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError):
        return []
