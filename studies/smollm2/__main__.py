"""``python -m studies.smollm2``."""

from studies.language_models.command import main
from studies.smollm2.config import TIER

if __name__ == "__main__":
    main(TIER)
