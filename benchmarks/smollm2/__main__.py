"""``python -m benchmarks.smollm2``."""

from benchmarks.language_models.command import main
from benchmarks.smollm2.config import TIER

if __name__ == "__main__":
    main(TIER)
