"""``python -m benchmarks.tiny_lm``."""

from benchmarks.language_models.command import main
from benchmarks.tiny_lm.config import TIER

if __name__ == "__main__":
    main(TIER)
