"""The bandit tier: how many queries each method needs, where the truth is known exactly."""
