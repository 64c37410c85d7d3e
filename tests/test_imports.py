"""What an import of the package brings, and what it leaves out: processes start with it."""

from __future__ import annotations

import subprocess
import sys


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
