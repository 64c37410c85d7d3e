"""``python -m studies.tiny_lm``."""

from studies.language_models.command import main
from studies.tiny_lm.config import TIER

if __name__ == "__main__":
    main(TIER)
