"""How the packages are cut: what an import brings and leaves out, how long a file is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_LINES = 400


def test_engines_are_imported_when_they_are_used() -> None:
    """In a process of its own, as those of the labeller and of the feed are."""
    code = (
        "import sys\n"
        "import rllib_sea.labelling.labeller\n"
        "import rllib_sea.policy_update.feed\n"
        "slow = ('torch', 'transformers', 'ray.rllib', 'ray.tune', 'pandas')\n"
        "print(*[name for name in slow if name in sys.modules])\n"
        "import rllib_sea.policy_update.controller\n"
        "print(*[name for name in slow[:3] if name in sys.modules])\n"
        "import ray.tune.registry\n"
        "from rllib_sea import SEA, SEAConfig, text_duel\n"
        "print(ray.tune.registry.get_trainable_cls('SEA') is SEA)\n"
        "print(SEAConfig().algo_class is SEA)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["", "", "True", "True"]


def test_commands_that_need_no_ray_do_not_import_it() -> None:
    """The page of `rllib-sea label` takes the memory of its imports, for as long as people label.

    Tune knows the names all the same, whether it is imported before the package or after it.
    """
    heavy = "('ray', 'pandas', 'pyarrow', 'torch', 'transformers', 'ray.tune.registry')"
    known = (
        "from ray.tune.registry import ENV_CREATOR, TRAINABLE_CLASS, _global_registry as found\n"
        "print(found.contains(TRAINABLE_CLASS, 'SEA'), "
        "found.contains(ENV_CREATOR, 'text_duel/TLDR-v0'))\n"
    )
    after = (
        "import sys\n"
        "import rllib_sea.cli.rllib_sea\n"
        "import rllib_sea.labelling.web.page_of_log\n"
        f"print(*[name for name in {heavy} if name in sys.modules])\n" + known
    )
    before = "import ray.tune\nimport rllib_sea\n" + known
    for code, expected in ((after, ["", "True True"]), (before, ["True True"])):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stdout.splitlines() == expected


def test_no_file_of_code_is_long() -> None:
    """What grows past this has a second thing in it: move that to a file of its own."""
    rooms = [ROOT / "rllib_sea", ROOT / "envs"]
    files = [file for room in rooms for kind in ("*.py", "*.js") for file in room.rglob(kind)]
    assert len(files) > 200
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}
