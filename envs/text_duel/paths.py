"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

from text_duel.errors import ConfigError


def user_path(written: str | Path, key: str) -> Path:
    """A path with ``~`` and ``~user`` replaced by that home folder.

    Args:
        written: The path.
        key: What named it, for the message.

    Raises:
        ConfigError: There is no such user.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        user = Path(written).parts[0][1:]
        raise ConfigError(f"{key}: {str(written)!r}: there is no user {user!r}") from error
