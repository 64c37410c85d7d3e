"""The way to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from text_duel.errors import ConfigError, one_line


def check_repo(repo: str) -> None:
    """Checks a repository's name.

    Raises:
        ConfigError: It is none.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"REPO: {one_line(error)}") from error
    if "/" not in repo:
        raise ConfigError(f"REPO: {repo!r} has no owner, expected owner/name")


def check_token() -> None:
    """Checks that the hub will know who pushes.

    Raises:
        ConfigError: There is no token.
    """
    if huggingface_hub.get_token() is None:
        raise ConfigError(
            "there is no token of the Hugging Face hub: run `hf auth login`, or set HF_TOKEN"
        )


def push(folder: Path, repo: str, kind: str, *, private: bool) -> str:
    """Pushes a folder's files in one commit; the repository is made if there is none.

    Args:
        folder: The folder.
        repo: ``owner/name``.
        kind: ``model`` or ``dataset``.
        private: Whether nobody else may see it.

    Returns:
        The commit's address.

    Raises:
        ConfigError: The hub refuses, or cannot be reached; or the repository exists, and others can
            see it though ``private`` says otherwise.
    """
    api = huggingface_hub.HfApi()
    with _one_line(repo, api.endpoint):
        api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo, repo_type=kind).private:
            raise ConfigError(f"--private: {repo} exists already, and everybody can see it")
        done = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message="Pushed by rllib-sea",
        )
    return done.commit_url


@contextmanager
def _one_line(repo: str, endpoint: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # of the hub, of the network, of the client below: no one kind
        raise ConfigError(f"cannot push to {repo} at {endpoint}: {one_line(error)}") from error
