"""The recipes that come with the package: `tuned_examples/`."""

from __future__ import annotations

from pathlib import Path

from text_duel.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
# In an installed wheel, in a checkout.
_FOLDERS = (_PACKAGE / "tuned_examples", _PACKAGE.parent / "tuned_examples")


def recipes() -> dict[str, Path]:
    """All recipes, by name, in alphabetical order."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    if folder is None:
        raise ConfigError(f"no recipes: there is no folder {_FOLDERS[0]}, nor {_FOLDERS[1]}")
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe, by the name that `rllib example list` shows; ``.yaml`` may follow."""
    found = recipes()
    stem = name.removesuffix(".yaml")
    if stem not in found:
        raise ConfigError(
            f"no recipe {name!r}{nearest(stem, found)}; `rllib example list` shows all"
        )
    return found[stem]


def headline(recipe: Path) -> str:
    """A recipe's first comment line: what it is for."""
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip()
    return ""
