"""A trainable that reports SEA's metrics without an engine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from rllib_sea.messages import Messages

BUDGET = 160


def toy_result(steps: int, quality: float = 1.0) -> dict[str, Any]:
    """What SEA would report after some rounds of 16 queries, in part."""
    rate = {"": 0.578125, "_low": 0.456, "_high": 0.692}
    return {
        "num_oracle_queries": 16 * steps,
        "query_budget": BUDGET,
        "round": steps,
        "rounds_left": BUDGET // 16 - steps,
        "quality": quality * steps,
        "duels": {"online_win_rate": 0.45, "mean_score": 3.5},
        "evaluation": {
            "num_prompts": 64.0,
            **{f"win_rate_vs_initial{end}": value for end, value in rate.items()},
            **{f"win_rate_vs_initial_soft{end}": value for end, value in rate.items()},
            "mean_score": 4.19,
        },
        "seconds": {"round": 21.3, "propose": 9.1, "erm": 0.5, "policy": 11.2},
        "done": 16 * steps >= BUDGET,
    }


class Toy(Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.steps = 0
        if config.get("fail_at") == 0:
            raise RuntimeError("the toy broke as it was set up\nand says why")

    def step(self) -> dict[str, Any]:
        if self.config.get("waits"):
            Messages(self._storage).show("waiting for somebody")
        time.sleep(self.config.get("seconds", 0.0))
        self.steps += 1
        if self.steps == self.config.get("fail_at") and not self._mended():
            raise RuntimeError(f"the toy broke at step {self.steps}\nand says why")
        result = toy_result(self.steps, self.config.get("quality", 1.0))
        return {**result, "folder": os.getcwd()}

    def save_checkpoint(self, checkpoint_dir: str) -> str:
        if self.steps == self.config.get("fail_to_save_at") and not self._mended():
            raise OSError("no space left on the toy's disk")
        (Path(checkpoint_dir) / "policy").mkdir()
        (Path(checkpoint_dir) / "policy" / "config.json").touch()
        (Path(checkpoint_dir) / "steps.json").write_text(json.dumps(self.steps))
        return checkpoint_dir

    def _mended(self) -> bool:
        """Whether a file is there that lets a second try get past a failure."""
        return Path(self.config.get("fail_unless", "no/file")).exists()

    def load_checkpoint(self, checkpoint: str) -> None:
        self.steps = json.loads((Path(checkpoint) / "steps.json").read_text())


if __name__ == "__main__":
    from ray.tune import register_trainable

    from rllib_sea.cli.rllib import main

    register_trainable("Toy", Toy)
    main()
