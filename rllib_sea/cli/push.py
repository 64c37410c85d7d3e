"""`rllib-sea push`: a run's policy or its preferences to the Hugging Face hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_sea.checkpointing.manifest import DamagedCheckpointError
from text_duel.errors import ConfigError

push_app = typer.Typer(
    help="Push a run's policy or its preferences to the Hugging Face hub, with a card that says "
    "how it was made.",
    no_args_is_help=True,
)
Repo = Annotated[str, typer.Argument(help="owner/name on the hub.")]
Private = Annotated[bool, typer.Option("--private", help="Only you can see it.")]
DryRun = Annotated[
    Path | None,
    typer.Option(
        "--dry-run",
        help="Write what would be pushed into this new folder, to be looked at; push nothing.",
    ),
]
Write = Callable[[Path, Callable[[Path, Path], Any]], str]


@push_app.command("policy")
def push_policy(
    run: Annotated[
        Path, typer.Argument(help="A run's folder, whose furthest checkpoint counts; or one.")
    ],
    repo: Repo,
    private: Private = False,
    dry_run: DryRun = None,
) -> None:
    """Push a policy, as `from_pretrained` reads it."""
    from rllib_sea.sharing.folders import find_checkpoint, write_policy

    def write(folder: Path, copy: Callable[[Path, Path], Any]) -> str:
        try:
            checkpoint = find_checkpoint(run)
        except DamagedCheckpointError as error:
            raise ConfigError(str(error)) from error
        write_policy(checkpoint, repo, folder, copy)
        return f"the policy of {checkpoint.folder}"

    _push(write, repo, "model", private, dry_run)


@push_app.command("preferences")
def push_preferences(
    log: Annotated[Path, typer.Argument(help="A run's folder, or a preferences.sqlite.")],
    repo: Repo,
    all_columns: Annotated[
        bool, typer.Option("--all", help="All columns that `preferences export --all` has.")
    ] = False,
    private: Private = False,
    dry_run: DryRun = None,
) -> None:
    """Push a run's preferences, as `datasets.load_dataset` reads them."""
    from rllib_sea.sharing.folders import write_preferences

    def write(folder: Path, copy: Callable[[Path, Path], Any]) -> str:
        return f"{write_preferences(log, repo, folder, all_columns=all_columns)} preferences"

    _push(write, repo, "dataset", private, dry_run)


def _push(write: Write, repo: str, kind: str, private: bool, dry_run: Path | None) -> None:
    from rllib_sea.sharing.push import check_repo, check_token, push

    check_repo(repo)
    if dry_run is not None:
        try:
            dry_run.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"--dry-run: {dry_run}: {error.strerror}: name a new one") from error
        try:
            what = write(dry_run, shutil.copyfile)
        except BaseException:
            shutil.rmtree(dry_run)
            raise
        typer.echo(f"{what}: written to {dry_run}, nothing was pushed")
        return
    check_token()
    with tempfile.TemporaryDirectory(prefix="rllib-sea-push-") as folder:
        # Weights are large: they are pushed from where they are.
        what = write(Path(folder), lambda file, place: place.symlink_to(file))
        typer.echo(f"{what}: pushed to {push(Path(folder), repo, kind, private=private)}")
