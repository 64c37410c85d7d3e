"""Who samples: the env runners, and the calls on them that survive deaths."""
